"""Many launches at once, over raw libvirt doing the same with the same parallelism.

Both sides begin with the first request and end with the last STARTED event on this program's connection. The guests have
16 MiB and stay in their firmware, so that what is measured is the launch and not the guests' boot. The raw side runs as
many launches at a time as the agent builds (`max_concurrent_builds`).
"""

import concurrent.futures
import os
import shutil
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_host import Apus, in_private_host, programs, test_image, wait_for  # noqa: E402
from crowd import ROOMY_AGENT, ROOMY_CONTROL, tiny_flavor, wait_status  # noqa: E402
from raw import Raw, Starts  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
# `[DEFAULT] max_concurrent_builds`.
PARALLEL = 10
SETTINGS = [word for setting in (*ROOMY_AGENT, *ROOMY_CONTROL) for word in ("--set", setting)]


def remove(client, identifiers):
    for identifier in identifiers:
        client.compute("DELETE", f"/servers/{identifier}")
    wait_for(lambda: not client.servers(), 300, "the servers' end", pause=0.5)


def through_apus(host, starts, image, flavor, number):
    """Seconds until all guests are started, and until all servers are ACTIVE."""
    clients = [host.client() for _ in range(number)]
    for client in clients:
        client.authenticate()
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        began = time.monotonic()
        made = list(pool.map(lambda pair: pair[1].create(f"burst-{pair[0]}", image, flavor), enumerate(clients)))
    started = max(starts.wait(identifier, 300) for identifier in made) - began
    for identifier in made:
        wait_status(clients[0], identifier, "ACTIVE", pause=0.02)
    active = time.monotonic() - began
    remove(clients[0], made)
    return started, active


def through_libvirt(raw, number):
    """Seconds until all guests are started."""
    prepared = [raw.prepare() for _ in range(number)]
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        began = time.monotonic()
        done = list(pool.map(raw.start, prepared))
    for domain, _ in done:
        domain.destroy()
    for _, place, _, _ in prepared:
        shutil.rmtree(place)
    return max(at for _, at in done) - began


def main():
    number = count(50)
    report = Report()
    with Apus(BINARIES) as host:
        host.start(SETTINGS)
        client = host.client()
        image, flavor = host.upload_test_image(), tiny_flavor(client)
        starts = Starts("qemu:///system")
        warm = client.create("warm", image, flavor)
        wait_status(client, warm, "ACTIVE")
        folder = os.path.join(host.folder, "raw")
        os.mkdir(folder, 0o711)
        raw = Raw(starts, starts.connection.lookupByUUIDString(warm), os.path.join(host.state, "instances", warm), folder)
        remove(client, [warm])
        plain = through_libvirt(raw, number)
        started, active = through_apus(host, starts, image, flavor, number)
        again = through_libvirt(raw, number)
        base = (plain + again) / 2
        report.add("burst.ratio", started / base, "1", n=number, parallel=PARALLEL)
        report.add("burst.apus_s", started, "s", n=number)
        report.add("burst.libvirt_s", base, "s", n=number, first=round(plain, 2), second=round(again, 2))
        report.add("burst.active_s", active, "s", n=number)
        starts.connection.close()
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus")
    test_image()


in_private_host(main, prepare)
