"""Launch through Apus, side by side with qemu-img create + virDomainCreateXML of the same finished XML.

Both sides end at the domain's STARTED event on this program's own connection. They alternate, the image is warm, and each
guest is gone before the next begins.
"""

import os
import shutil
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_host import Apus, in_private_host, programs, test_image, wait_for  # noqa: E402
from raw import Raw, Starts  # noqa: E402
from report import Report, count, percentile  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
# After a deletion the host is left alone for as long as its clearing up takes.
REST_SECONDS = 0.5


def delete(client, identifier):
    client.compute("DELETE", f"/servers/{identifier}")
    wait_for(lambda: client.find(identifier) is None, 60, f"server {identifier} to be deleted", pause=0.02)


def launch(client, starts, name, image, flavor):
    """The server, and the seconds from the moment before the POST to the STARTED event and to ACTIVE in the API."""
    # A login between the two clocks would be measured with it.
    client.authenticate()
    began = time.monotonic()
    identifier = client.create(name, image, flavor)
    started = starts.wait(identifier)
    while True:
        server = client.find(identifier)
        if server["status"] == "ACTIVE":
            break
        if server["status"] == "ERROR":
            raise RuntimeError(f"server {identifier}: {server.get('fault')}")
        time.sleep(0.002)
    return identifier, started - began, time.monotonic() - began


def main():
    pairs = count(24)
    report = Report()
    with Apus(BINARIES) as host:
        host.start()
        client = host.client()
        image = host.upload_test_image()
        flavor = client.flavor("m1.micro")["id"]
        starts = Starts("qemu:///system")
        # The first one fills the image cache and libvirt's probes, and gives the XML.
        warm, _, _ = launch(client, starts, "warm", image, flavor)
        folder = os.path.join(host.folder, "raw")
        os.mkdir(folder, 0o711)
        raw = Raw(starts, starts.connection.lookupByUUIDString(warm), os.path.join(host.state, "instances", warm), folder)
        delete(client, warm)
        raw.launch()
        apus, active, plain = [], [], []
        for index in range(pairs):
            for side in ("apus", "raw") if index % 2 == 0 else ("raw", "apus"):
                time.sleep(REST_SECONDS)
                if side == "raw":
                    plain.append(raw.launch() * 1000)
                    continue
                identifier, to_start, to_active = launch(client, starts, f"bench-{index}", image, flavor)
                apus.append(to_start * 1000)
                active.append(to_active * 1000)
                delete(client, identifier)
        for share in (50, 95):
            report.add(f"launch.ratio.p{share}", percentile(apus, share) / percentile(plain, share), "1", n=pairs)
        for name, values in (("apus", apus), ("libvirt", plain), ("active", active)):
            report.add(f"launch.{name}_ms.p50", percentile(values, 50), "ms", n=pairs,
                       p95=round(percentile(values, 95), 1), least=round(min(values), 1))
        starts.connection.close()
        if os.environ.get("APUS_BENCH_LOG"):
            shutil.copyfile(host.log, os.environ["APUS_BENCH_LOG"])
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus")
    test_image()


in_private_host(main, prepare)
