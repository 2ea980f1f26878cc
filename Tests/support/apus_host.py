"""A private libvirt host (deploy/lab) with Apus in it, for benches and tests that look from outside."""

import argparse
import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

from apus_client import Client, read_clouds_yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.path.join(ROOT, "deploy", "lab")
# The folder of the run, for a program that runs inside a private host.
INSIDE = "APUS_TEST_INSIDE"
IMAGE_SECONDS = 600
# [compute] memory_overhead_mib where no test sets it: what a server takes beside its flavor's memory.
OVERHEAD_MIB = 64


def read_arguments(description, arguments=None, extend=None):
    """The flags that every test program takes: --full, --seed, --binaries; `extend` adds more to the parser."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=bool(os.environ.get("APUS_FULL")),
                        help="the whole matrix, not the share that CI runs")
    parser.add_argument("--seed", type=int, default=os.environ.get("APUS_SEED"),
                        help="of every random choice; printed, so that a run can be repeated")
    parser.add_argument("--binaries", metavar="DIR",
                        default=os.environ.get("APUS_BINARIES") or os.path.join(ROOT, ".build", "debug"),
                        help="folder of apus, apus-compute and the others (.build/debug)")
    if extend:
        extend(parser)
    read = parser.parse_args(arguments)
    read.seed = int(read.seed) if read.seed is not None else random.SystemRandom().randrange(2**32)
    read.binaries = os.path.abspath(read.binaries)
    return read


def programs(binaries, *names):
    """Ends the program with a sentence when something has not been built."""
    missing = [name for name in names if not os.access(os.path.join(binaries, name), os.X_OK)]
    if missing:
        sys.exit(f"{', '.join(missing)} not in {binaries}: build first, or say --binaries DIR")


def exit_on_signals():
    """Makes SIGTERM, SIGINT and SIGHUP end the program by SystemExit, so that everything is taken down."""
    def stop(number, _frame):
        for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)


class Lab:
    """`count` private hosts, `host1` and so on, up while the `with` block runs. `flags` as deploy/lab up has them."""

    def __init__(self, count=1, flags=()):
        self.count, self.flags = count, flags

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="apus-host-")
        # QEMU may be another user, and must reach what lies below.
        os.chmod(self.folder, 0o711)
        try:
            self._run("up", "--hosts", str(self.count), *self.flags)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self._run("down")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command, *arguments):
        subprocess.run(
            [LAB, command, "--dir", f"{self.folder}/lab", *arguments], check=True, stdout=subprocess.DEVNULL,
            # A Ctrl-C is for us; what it takes to clear up must not be ended by it.
            start_new_session=True)


def in_host(host, *command):
    """The argument list that runs `command` in another host of the lab that this program runs in."""
    return [LAB, "exec", "--dir", f"{os.environ[INSIDE]}/lab", host, "--", *command]


def revive(host):
    """Starts those of a host's libvirt daemons that have ended, and waits until they answer."""
    subprocess.run([LAB, "revive", "--dir", f"{os.environ[INSIDE]}/lab", host], check=True)


def lab_hosts():
    """What the lab says of its hosts, by name: address, netns and so on."""
    status = [LAB, "status", "--dir", f"{os.environ[INSIDE]}/lab"]
    lines = subprocess.run(status, check=True, capture_output=True, text=True).stdout.splitlines()
    return {host["name"]: host for host in map(json.loads, lines)}


def in_private_host(main, prepare=None, hosts=1, flags=()):
    """Runs `main` inside the first of fresh private hosts, and takes them down whatever happened. `flags` as deploy/lab up
    has them.

    `prepare` runs before, outside: a private host cannot reach other machines.
    """
    exit_on_signals()
    if os.environ.get(INSIDE):
        sys.exit(main())
    if prepare:
        prepare()
    code = 1
    with Lab(hosts, flags) as lab:
        program = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
        process = subprocess.Popen(
            [LAB, "exec", "--dir", f"{lab.folder}/lab", "host1", "--", "env", f"{INSIDE}={lab.folder}", *program],
            start_new_session=True)
        try:
            code = process.wait()
        finally:
            end(process, 60)
    sys.exit(code)


def end(process, seconds, number=signal.SIGTERM):
    """Ends a process we started: the signal, then SIGKILL; its exit code."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def wait_for(probe, seconds, what, pause=0.05):
    """The first true value of `probe`; TimeoutError after `seconds`."""
    limit = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not in {seconds} s")
        time.sleep(pause)


def clean_environment():
    """Ours, without the caller's own login."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OS_")}


class HostView:
    """What a host holds for instances, seen from inside it: by libvirt, and in the agent's and the API's folders."""

    def __init__(self, instances, images):
        self.instances, self.images = instances, images

    def domains(self):
        """{uuid: state} of every domain."""
        found = {}
        for identifier in virsh("list", "--all", "--uuid").split():
            found[identifier] = virsh("domstate", identifier).strip()
        return found

    def folders(self):
        """The instances that have a folder."""
        if not os.path.isdir(self.instances):
            return set()
        return {name for name in os.listdir(self.instances) if is_uuid(name)}

    def files(self, identifier):
        """The names of the files in an instance's folder; empty without a folder."""
        try:
            return set(os.listdir(os.path.join(self.instances, identifier)))
        except FileNotFoundError:
            return set()

    def unfinished_files(self):
        """Paths of files that are only there while something is written."""
        return sorted(
            os.path.join(folder, name)
            for top in (self.instances, self.images)
            for folder, _, names in os.walk(top)
            for name in names if name.endswith((".part", ".new", ".tmp")))

    def reservations(self, network="default"):
        """{MAC: address} of what is reserved on the network, for instances and as spares."""
        tree = ElementTree.fromstring(virsh("net-dumpxml", network))
        return {host.get("mac"): host.get("ip") for host in tree.iter("host") if host.get("mac")}

    def forget_reservations(self, kept, network="default"):
        """Gives back what is reserved on the network but for the MACs in `kept`. No guest is on it any more."""
        forget_reservations(virsh, kept, network)

    def address_owners(self, network="default"):
        """{MAC: (address, instance or None)} of the reservations that the agent knows; None for a spare."""
        path = os.path.join(self.instances, "_networks", network)
        if not os.path.exists(path):
            return {}
        with open(path, encoding="ascii") as file:
            rows = [line.split() for line in file]
        return {mac: (address, None if owner == "-" else owner) for mac, address, owner, *_ in rows}


class Apus(HostView):
    """`apus up` in the private host that this program runs in."""

    def __init__(self, binaries=None, name="state"):
        binaries = binaries or os.environ.get("APUS_BINARIES") or os.path.join(ROOT, ".build", "debug")
        self.folder = os.environ[INSIDE]
        self.state = os.path.join(self.folder, name)
        super().__init__(os.path.join(self.state, "instances"), os.path.join(self.state, "images"))
        self.program = os.path.join(binaries, "apus")
        self.log = os.path.join(self.folder, f"{name}.log")
        self.process = None
        self.endpoints = {}
        self.environment = clean_environment()
        self.environment["OS_CLIENT_CONFIG_FILE"] = os.path.join(self.state, "clouds.yaml")
        self.environment["OS_CLOUD"] = "apus"

    def start(self, options=(), limit=90):
        """Starts it and waits until everything serves."""
        ready = os.path.join(self.state, "endpoints.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ready)
        self.launch(options)

        def serves():
            if self.process.poll() is not None:
                raise RuntimeError(f"apus up ended with {self.process.returncode}:\n{self.tail()}")
            return os.path.exists(ready)

        try:
            wait_for(serves, limit, "apus up to serve", pause=0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from error
        with open(ready, encoding="ascii") as file:
            self.endpoints = json.load(file)

    def launch(self, options=()):
        """Starts it, and does not wait."""
        os.makedirs(self.state, mode=0o711, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "up", "--state-path", self.state, *options], stdout=log, stderr=log,
                env=self.environment, start_new_session=True)

    def kill(self):
        """SIGKILL, as a power cut would have it for this process alone."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self, limit=60):
        """Ends it as a service manager would; the exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.terminate()
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeoutError(f"apus up did not end in {limit} s after SIGTERM:\n{self.tail()}") from None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process is None:
            return
        if kind is None:
            self.stop()
        else:
            end(self.process, 20)

    def tail(self, lines=40):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    def client(self, **options):
        return Client(read_clouds_yaml(os.path.join(self.state, "clouds.yaml")), **options)

    def attempt(self, *arguments):
        """A run of the command line, whatever comes of it."""
        return subprocess.run(
            [self.program, *arguments], env=self.environment, capture_output=True, text=True, timeout=120)

    def run(self, arguments, **options):
        """Standard output of a program that must succeed."""
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, **options)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def cli(self, *arguments):
        return self.run([self.program, *arguments])

    def upload_test_image(self, name="test-guest", flags=()):
        """Builds the test image if there is none yet; its id."""
        path = test_image(*flags)
        return json.loads(self.cli("image", "create", name, "--file", path, "--public", "--json"))["id"]


def is_uuid(text):
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


def forget_reservations(virsh, kept=(), network="default"):
    """Gives back what is reserved on a host's network but for the MACs in `kept`. No guest is on it: it starts anew, which
    takes as long as two changes of a network that runs. `virsh` gives what the command of that name prints."""
    tree = ElementTree.fromstring(virsh("net-dumpxml", "--inactive", network))
    for parent in tree.iter("dhcp"):
        for host in parent.findall("host"):
            if host.get("mac") not in kept:
                parent.remove(host)
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(ElementTree.tostring(tree, encoding="unicode"))
        file.flush()
        virsh("net-destroy", network)
        virsh("net-define", file.name)
        virsh("net-start", network)


def virsh(*arguments):
    return subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", *arguments], check=True, capture_output=True, text=True).stdout


def test_image(*flags):
    """The path of the test guest's image, built once a change of its script; `flags` as deploy/test-image has them."""
    return built_image("-".join(["test-guest", *(flag.strip("-") for flag in flags)]), "test-image", *flags)


def debian_image(source):
    """The path of an image of Debian whose cloud-init looks at one source alone."""
    return built_image(f"debian-{source}", "debian-image", "--datasource", source)


def built_image(name, script, *flags):
    path, script = os.path.join(ROOT, ".build", f"{name}.qcow2"), os.path.join(ROOT, "deploy", script)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # Programs that begin at once must not build it over each other.
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(script):
            subprocess.run([script, path, *flags], check=True, stdout=sys.stderr, timeout=IMAGE_SECONDS)
    return path


class Checks:
    """Prints each check as a line that deploy/test counts; the last line of a run is the sum."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, problem=None):
        """`problem` is falsy, or says what is wrong. True when all is well."""
        if problem:
            self.failed += 1
            print(f"not ok - {name}: {problem}", flush=True)
        else:
            self.passed += 1
            print(f"ok - {name}", flush=True)
        return not problem

    @contextlib.contextmanager
    def guard(self, name):
        """A part of a run that may break: then it is one failed check, and the run goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
            self.check(name, f"{type(error).__name__}: {error}")

    def finish(self):
        """Prints the sum; the exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1

    @property
    def code(self):
        return 0 if self.failed == 0 else 1
