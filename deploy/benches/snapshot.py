"""A live snapshot, over `qemu-img convert` of the same disk in the same run, and the guest's longest pause by its ticks.

The disk is the test guest's with random data behind it. `snapshot.ratio` compares what both sides do: from the request
until the flattened copy of the running guest's disk is complete and on the host's disk, over a conversion that ends there
too. `snapshot.active_s` goes on until the image is active: the copy has then gone through HTTP, two digests and a second
disk, for which qemu-img has no counterpart. The guest ticks every 20 ms.
"""

import base64
import os
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_host import Apus, in_private_host, programs, test_image, wait_for  # noqa: E402
from crowd import wait_status  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
DATA_MIB = int(os.environ.get("APUS_BENCH_MIB") or 512)
TICK_US = 20_000
QUIET_SECONDS = 5


def image_with_data(folder):
    """The test guest's disk with so much that no compression helps behind it."""
    path = os.path.join(folder, "data.raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", test_image(), path], check=True)
    with open(path, "r+b") as file:
        file.seek(64 << 20)
        for _ in range(DATA_MIB):
            file.write(os.urandom(1 << 20))
    return path


class Ticks:
    """The moments at which the guest wrote something on its console."""

    def __init__(self, path):
        self.path, self.moments, self.stopped = path, [], threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self):
        size = os.path.getsize(self.path)
        while not self.stopped.is_set():
            now = os.path.getsize(self.path)
            if now != size:
                size = now
                self.moments.append(time.monotonic())
            time.sleep(0.001)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def longest_gap_ms(self):
        return max(later - earlier for earlier, later in zip(self.moments, self.moments[1:])) * 1000


def convert(disk, target):
    began = time.monotonic()
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "qcow2", disk, target], check=True)
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    took = time.monotonic() - began
    os.unlink(target)
    return took


def snapshot(client, server, name, folder):
    """Seconds until the host has the copy in `folder`, seconds until the image is active, and the image."""
    began = time.monotonic()
    client.act(server, "createImage", {"name": name})
    wait_for(lambda: [file for file in names(folder) if file.endswith(".qcow2")], 600, "the copy", pause=0.005)
    copied = time.monotonic() - began

    def active():
        images = [image for image in client.image("GET", "/images")["images"] if image["name"] == name]
        return images[0] if images and images[0]["status"] == "active" else None

    image = wait_for(active, 600, "the snapshot to be active", pause=0.02)
    took = time.monotonic() - began
    wait_status(client, server, "ACTIVE")
    return copied, took, image


def names(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def main():
    rounds = count(3)
    report = Report()
    with Apus(BINARIES) as host:
        host.start()
        client = host.client()
        source = image_with_data(host.folder)
        image = client.make_image("data", source, disk_format="raw")
        os.unlink(source)
        flavor = client.flavor("m1.micro")["id"]
        body = {
            "name": "snapped", "imageRef": image, "flavorRef": flavor, "networks": "auto",
            "user_data": base64.b64encode(f"apus-tick-us={TICK_US}\n".encode()).decode(),
        }
        server = client.compute("POST", "/servers", {"server": body})["server"]["id"]
        wait_status(client, server, "ACTIVE")
        folder = os.path.join(host.instances, server)
        console = os.path.join(folder, "console.log")
        wait_for(lambda: os.path.exists(console) and b"tick 20" in open(console, "rb").read(), 120, "the guest's ticks")
        disk = os.path.join(folder, "disk")
        with Ticks(console) as quiet:
            time.sleep(QUIET_SECONDS)
        copies, wholes, plain, pauses = [], [], [], []
        convert(disk, os.path.join(host.folder, "warm.qcow2"))
        for number in range(rounds):
            plain.append(convert(disk, os.path.join(host.folder, "plain.qcow2")))
            with Ticks(console) as ticks:
                copied, took, made = snapshot(
                    client, server, f"snapshot-{number}", os.path.join(host.instances, "snapshots"))
            copies.append(copied)
            wholes.append(took)
            pauses.append(ticks.longest_gap_ms() - TICK_US / 1000)
            client.image("DELETE", f"/images/{made['id']}")
        report.add("snapshot.ratio", statistics.median(copies) / statistics.median(plain), "1", n=rounds, mib=DATA_MIB)
        report.add("snapshot.copy_s", statistics.median(copies), "s", n=rounds)
        report.add("snapshot.active_s", statistics.median(wholes), "s", n=rounds)
        report.add("snapshot.convert_s", statistics.median(plain), "s", n=rounds)
        report.add("snapshot.pause_ms", max(pauses), "ms", n=rounds, quiet=round(quiet.longest_gap_ms() - TICK_US / 1000, 1))
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus")
    test_image()


in_private_host(main, prepare)
