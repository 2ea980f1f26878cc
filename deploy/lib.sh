# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set here is used by those who source it
# What quickstart, test and bench share. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
fail() {
    printf 'deploy/%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Commands that need root run through "${as_root[@]}": nothing for root, sudo for others.
as_root=()
need_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || fail "needs root: run it as root, or install sudo"
    as_root=(sudo)
}

build_packages=(
    ca-certificates git pkg-config libc6-dev libcrypt-dev libgnutls28-dev libmicrohttpd-dev libsqlite3-dev
    libvirt-dev libxml2-dev libcurl3-gnutls
)
# What the agent calls itself; the unit tier makes disks and config drives with them.
driver_packages=(dosfstools e2fsprogs genisoimage qemu-system-x86 qemu-utils util-linux)
# For a control plane that can use PostgreSQL; the unit tier makes servers of its own.
server_packages=(libpq-dev librabbitmq-dev postgresql)
# A broker for the notifications' tests.
broker_packages=(amqp-tools rabbitmq-server)
host_packages=(
    "${driver_packages[@]}" busybox-static cpio dnsmasq-base iproute2 libvirt-clients libvirt-daemon-system mtools syslinux
)

# Firmware and TPM for the guests of the hypervisor tier that have them; a host without such guests needs neither.
guest_packages=(ovmf swtpm swtpm-tools)

image_packages=(binutils busybox-static cpio dpkg e2fsprogs gzip mtools qemu-utils syslinux)

# Both of libcurl's development packages have the same headers and exclude each other: either will do.
curl_package() {
    [ -e /usr/include/curl/curl.h ] || compgen -G '/usr/include/*/curl/curl.h' >/dev/null || echo libcurl4-gnutls-dev
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Installs those of the named packages that are missing, and removes none for it.
install_packages() {
    local missing=() package
    for package in "$@"; do is_installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "these packages are missing, and there is no apt-get: ${missing[*]}"
    say "  installing ${missing[*]}"
    need_root
    local log
    log=$(mktemp)
    # A package list may be old or absent: refresh it only when the first try fails. Daemons are not ours to start here.
    if ! apt_install "${missing[@]}" >"$log" 2>&1; then
        "${as_root[@]}" apt-get update >>"$log" 2>&1 || { cat "$log" >&2; fail "apt-get update failed"; }
        apt_install "${missing[@]}" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "apt-get could not install ${missing[*]}"; }
    fi
    rm -f "$log"
}

apt_install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-remove --no-install-recommends "$@"
}

# A toolchain that is new enough, or a sentence about what is missing.
need_swift() {
    command -v swift >/dev/null || fail "no swift in PATH: install a toolchain of 6.3 or later (https://swift.org/install)"
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    case $version in
        [0-5].* | 6.[0-2]) fail "swift is $version; 6.3 or later is needed" ;;
    esac
}

# Seconds since the epoch, with a fraction.
now() { date +%s.%N; }

# since START: seconds from then to now, one decimal.
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
