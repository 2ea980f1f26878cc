"""Guests that move to another host, each over what the same takes without Apus, over the same link and in the same run.

`migrate.ratio` is a live migration of a guest whose disk both hosts share: from the request until the API shows the server
ACTIVE on the other host, over `virsh migrate --live --p2p --persistent --undefinesource` by plain TCP of a guest that has
the same definition, the same disk and the same memory in use. `migrate.pause_ratio` is the guest's longest missed tick in
both; it ticks every 20 ms. `migrate.block_ratio` is the time that a live migration takes longer with a disk of random data
than without, over `qemu-img convert` of that disk to a `qemu-nbd` on the other host. `coldcopy.ratio` is the same of a
server that is off, over `cp --sparse` from a socket there. `drain.s` is how long `apus host drain` takes for a host with
many small servers, whose guests stay in their firmware.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, *(os.path.join(ROOT, "Tests", folder) for folder in ("support", "multihost"))]

from apus_daemons import ControlPlane  # noqa: E402
from apus_host import INSIDE, Checks, in_host, in_private_host, lab_hosts, programs, test_image, wait_for  # noqa: E402
from cloud import Cloud  # noqa: E402
from crowd import ROOMY_AGENT, ROOMY_CONTROL, wait_status  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
PROGRAMS = ("apus", "apus-api", "apus-compute", "apus-conductor", "apus-scheduler")
TICK_US = 20_000
# As guests of KVM do, and as virsh has emulated ones do.
RUNS = "libvirt.live_migration_emulated_guests=run"
# Memory of the guests, and how much of it has something in it beside the kernel.
SIZES = ((128, 8), (1024, 320))
DATA_MIB = int(os.environ.get("APUS_BENCH_MIB") or 512)
# What the link between the hosts carries; all that it can without.
MEGABITS = int(os.environ.get("APUS_BENCH_MEGABITS") or 0)
SERVERS, SERVER_MIB, PARALLEL = 20, 64, 4
NBD_PORT, COPY_PORT = 10_809, 10_810
TAIL = 4096
# Runs on the other host: takes one connection and lets cp write what comes, as it does for a file with holes.
RECEIVE = """
import os, socket, subprocess, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
connection, _ = listener.accept()
pipe = subprocess.Popen(["cat"], stdin=connection, stdout=subprocess.PIPE)
subprocess.run(["cp", "--sparse=always", "/dev/stdin", sys.argv[3]], stdin=pipe.stdout, check=True)
with open(sys.argv[3], "rb") as file:
    os.fsync(file.fileno())
print("done", flush=True)
"""


class Ticks:
    """The moments at which a guest's ticks came, from whichever host."""

    def __init__(self, *paths):
        self.paths, self.moments, self.stopped = set(paths), [], threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self):
        last, sizes = 0, {}
        while not self.stopped.wait(0.001):
            for path in self.paths:
                with contextlib.suppress(FileNotFoundError):
                    size = os.path.getsize(path)
                    if sizes.get(path) == size:
                        continue
                    sizes[path] = size
                    tick = last_tick(path, size)
                    if tick > last:
                        last = tick
                        self.moments.append(time.monotonic())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def longest_ms(self):
        gaps = [later - earlier for earlier, later in zip(self.moments, self.moments[1:])]
        return max(gaps) * 1000 - TICK_US / 1000


def last_tick(path, size):
    with open(path, "rb") as file:
        file.seek(max(0, size - TAIL))
        found = re.findall(rb"^tick (\d+)\r?\n", file.read(), re.M)
    return int(found[-1]) if found else 0


class Twin:
    """A guest of libvirt's alone that is like one of Apus's: its definition, and copies of its files."""

    def __init__(self, bench, host, server):
        self.bench, self.host, self.id = bench, host, str(uuid.uuid4())
        source = os.path.join(bench.instances(host), server)
        self.folder = os.path.join(bench.scratch, self.id)
        os.mkdir(self.folder, 0o711)
        tree = ElementTree.fromstring(bench.virsh(host, "dumpxml", "--inactive", server))
        tree.find("name").text, tree.find("uuid").text = "twin-" + self.id[:8], self.id
        for entry in tree.iter("entry"):
            if entry.get("name") in ("uuid", "serial"):
                entry.text = self.id
        for old in tree.findall("seclabel") + tree.findall("metadata"):
            tree.remove(old)
        for mac in tree.iter("mac"):
            mac.set("address", "52:54:00:" + ":".join(self.id[i:i + 2] for i in (0, 2, 4)))
        # The other host's log daemon would begin a new file, and what is said until the switch would be in none.
        for log in tree.iter("log"):
            log.set("append", "on")
        for element in tree.iter():
            for key, value in element.attrib.items():
                if value.startswith(source + "/"):
                    element.set(key, self.folder + value[len(source):])
        for disk in tree.iter("disk"):
            path = disk.find("source").get("file")
            if disk.get("device") == "cdrom":
                shutil.copyfile(os.path.join(source, os.path.basename(path)), path)
            else:
                said = json.loads(subprocess.run(
                    ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", os.path.join(source, "disk")], check=True,
                    capture_output=True, text=True).stdout)
                subprocess.run(
                    ["qemu-img", "create", "-q", "-f", "qcow2", "-F", said["backing-filename-format"], "-b",
                     said["full-backing-filename"], path, str(said["virtual-size"])], check=True)
        self.console = os.path.join(self.folder, "console.log")
        text = os.path.join(self.folder, "domain.xml")
        ElementTree.ElementTree(tree).write(text, encoding="unicode")
        bench.virsh(host, "define", text)
        bench.virsh(host, "start", self.id)

    def migrate(self):
        """Seconds."""
        other = self.bench.other(self.host)
        address = self.bench.cloud.addresses[other]
        began = time.monotonic()
        self.bench.virsh(
            self.host, "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--unsafe", self.id,
            f"qemu+tcp://{address}/system", "--migrateuri", f"tcp://{address}")
        took = time.monotonic() - began
        self.host = other
        return took

    def remove(self):
        self.bench.virsh(self.host, "destroy", self.id)
        self.bench.virsh(self.host, "undefine", self.id)
        shutil.rmtree(self.folder)


class Bench:
    def __init__(self, cloud, report):
        self.cloud, self.report, self.client = cloud, report, cloud.control.client()
        self.client.version = "compute 2.80"
        self.lab = lab_hosts()
        self.usual = {name: list(agent.options) for name, agent in cloud.agents.items()}
        self.shared = None
        self.scratch = os.path.join(os.environ[INSIDE], "twins")
        os.mkdir(self.scratch, 0o711)

    def other(self, host):
        return next(name for name in self.cloud.agents if name != host)

    def instances(self, host):
        return self.shared or os.path.join(self.cloud.agents[host].state, "instances")

    def share(self, is_shared):
        """Lets the hosts have their instances in one folder; or each in its own."""
        self.shared = os.path.join(os.environ[INSIDE], "shared") if is_shared else None
        if self.shared:
            os.makedirs(self.shared, mode=0o711, exist_ok=True)
        words = ["--set", f"DEFAULT.instances_path={self.shared}"] if is_shared else []
        for name, agent in self.cloud.agents.items():
            agent.stop()
            agent.options = self.usual[name] + words
            agent.start(ready="serving")
        self.cloud.wait_for_states(**{name: "up" for name in self.cloud.agents})

    def virsh(self, host, *arguments):
        done = subprocess.run(
            ["virsh", "-q", "-c", self.lab[host]["uri"], *arguments], stdin=subprocess.DEVNULL, capture_output=True,
            text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{host}: virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def flavor(self, name, memory, disk=2):
        body = {"name": name, "vcpus": 1, "ram": memory, "disk": disk}
        return self.client.compute("POST", "/flavors", {"flavor": body})["flavor"]["id"]

    def launch(self, name, flavor, wishes=(), host="host1"):
        """A server on that host whose guest ticks; its id."""
        data = "".join(f"apus-{wish}\n" for wish in (f"tick-us={TICK_US}", *wishes))
        body = {"name": name, "imageRef": self.cloud.image, "flavorRef": flavor, "networks": "auto",
                "availability_zone": f"nova:{host}", "user_data": base64.b64encode(data.encode()).decode()}
        server = self.client.compute("POST", "/servers", {"server": body})["server"]["id"]
        wait_status(self.client, server, "ACTIVE")
        return server

    def console(self, host, server):
        return os.path.join(self.instances(host), server, "console.log")

    def ticking(self, path, words=b"tick 20"):
        wait_for(lambda: os.path.exists(path) and words in open(path, "rb").read(), 300, "the guest's ticks", pause=0.1)

    def migrate(self, server):
        """Seconds until the API shows the server on the other host, with nothing under way."""
        home = self.client.find(server)["OS-EXT-SRV-ATTR:host"]
        self.client.authenticate()
        began = time.monotonic()
        self.client.act(server, "os-migrateLive", {"host": self.other(home), "block_migration": "auto"})
        while True:
            seen = self.client.find(server)
            if seen["OS-EXT-STS:task_state"] is None:
                break
            time.sleep(0.01)
        took = time.monotonic() - began
        if (seen["status"], seen["OS-EXT-SRV-ATTR:host"]) != ("ACTIVE", self.other(home)):
            raise RuntimeError(f"after a live migration the server is {seen['status']} on {seen['OS-EXT-SRV-ATTR:host']}")
        return took

    # The figures.

    def live(self, rounds):
        """Through Apus and by libvirt alone, alternating. The seconds of the smallest guest through Apus."""
        smallest = None
        for memory, filled in SIZES:
            server = self.launch(f"bench-{memory}", self.flavor(f"bench-{memory}", memory), [f"fill={filled}"])
            twin = Twin(self, "host1", server)
            for path in (self.console("host1", server), twin.console):
                self.ticking(path, b"MiB of memory")
            times, pauses = {"apus": [], "libvirt": []}, {"apus": [], "libvirt": []}
            # What is made with the first connection between the hosts is made on both sides.
            self.migrate(server)
            twin.migrate()
            for number in range(rounds):
                for side in ("apus", "libvirt") if number % 2 == 0 else ("libvirt", "apus"):
                    path = self.console("host1", server) if side == "apus" else twin.console
                    with Ticks(path) as ticks:
                        times[side].append(self.migrate(server) if side == "apus" else twin.migrate())
                        seen = len(ticks.moments)
                        wait_for(lambda: len(ticks.moments) > seen + 5, 60, "the guest to go on")
                    pauses[side].append(ticks.longest_ms())
            twin.remove()
            self.cloud.remove(server)
            smallest = smallest or statistics.median(times["apus"])
            for name, unit, values in (("ratio", "s", times), ("pause_ratio", "ms", pauses)):
                apus, libvirt = (statistics.median(values[side]) for side in ("apus", "libvirt"))
                self.report.add(f"migrate.{name}", apus / libvirt, "1", n=rounds, memory=memory, filled=filled,
                                **{f"apus_{unit}": round(apus, 3), f"libvirt_{unit}": round(libvirt, 3)})
        return smallest

    def with_data(self, name, flavor, size, wishes=()):
        """A server that is off, with so much behind its file systems that no compression helps."""
        server = self.launch(name, flavor, wishes)
        self.client.act(server, "os-stop")
        wait_status(self.client, server, "SHUTOFF")
        disk = os.path.join(self.instances("host1"), server, "disk")
        if size:
            data = os.path.join(self.scratch, "data")
            with open(data, "wb") as file:
                for _ in range(size):
                    file.write(os.urandom(1 << 20))
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -q -s {data} 64M {size}M", disk], check=True)
            os.unlink(data)
        return server, disk

    def block(self, rounds, flavor):
        apus, empty, plain = [], [], []
        for number in range(rounds):
            for size, times in ((0, empty), (DATA_MIB, apus)):
                server, disk = self.with_data(f"block-{number}-{size}", flavor, size)
                if size:
                    plain.append(self.convert(disk))
                self.client.act(server, "os-start")
                wait_status(self.client, server, "ACTIVE")
                self.ticking(self.console("host1", server))
                times.append(self.migrate(server))
                self.cloud.remove(server)
        self.share_of("migrate.block_ratio", rounds, apus, empty, plain)

    def share_of(self, name, rounds, apus, empty, plain):
        """The time for the data alone, over the other side's."""
        whole, nothing, other = (statistics.median(values) for values in (apus, empty, plain))
        data = max(whole - nothing, 0.001)
        self.report.add(name, data / other, "1", n=rounds, mib=DATA_MIB, mbit=MEGABITS, apus_s=round(whole, 3),
                        empty_s=round(nothing, 3), other_s=round(other, 3), mib_per_s=round(DATA_MIB / data, 1))

    def convert(self, disk):
        """Seconds of qemu-img convert to a qemu-nbd on the other host, until it is on the disk there."""
        target = os.path.join(self.scratch, "converted")
        size = json.loads(subprocess.run(
            ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", disk], check=True, capture_output=True,
            text=True).stdout)["virtual-size"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target, str(size)], check=True)
        address = self.cloud.addresses["host2"]
        server = subprocess.Popen(in_host(
            "host2", "qemu-nbd", "--persistent", "--format", "qcow2", "--bind", address, "--port", str(NBD_PORT),
            "--discard=unmap", target), stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: reaches(address, NBD_PORT), 20, "qemu-nbd", pause=0.02)
            began = time.monotonic()
            subprocess.run(
                ["qemu-img", "convert", "-U", "-n", "--target-is-zero", "-f", "qcow2", "-O", "raw", disk,
                 f"nbd://{address}:{NBD_PORT}/"], check=True)
            return time.monotonic() - began
        finally:
            server.terminate()
            server.wait()
            os.unlink(target)

    def cold(self, rounds, flavor):
        apus, empty, plain = [], [], []
        for number in range(rounds):
            for size, times in ((0, empty), (DATA_MIB, apus)):
                server, disk = self.with_data(f"cold-{number}-{size}", flavor, size)
                if size:
                    plain.append(self.copy(disk))
                self.client.authenticate()
                began = time.monotonic()
                self.client.act(server, "migrate")
                wait_status(self.client, server, "VERIFY_RESIZE", pause=0.01)
                times.append(time.monotonic() - began)
                self.client.act(server, "confirmResize")
                wait_status(self.client, server, "SHUTOFF")
                self.cloud.remove(server)
        self.share_of("coldcopy.ratio", rounds, apus, empty, plain)

    def copy(self, disk):
        """Seconds of cp on the other host of what comes from here, until it is on the disk there."""
        target = os.path.join(self.scratch, "copied")
        address = self.cloud.addresses["host2"]
        receiver = subprocess.Popen(
            in_host("host2", sys.executable, "-c", RECEIVE, address, str(COPY_PORT), target), stdout=subprocess.PIPE)
        try:
            if receiver.stdout.readline() != b"ready\n":
                raise RuntimeError("the receiver does not start")
            began = time.monotonic()
            with socket.create_connection((address, COPY_PORT)) as connection, open(disk, "rb") as file:
                connection.sendfile(file)
                connection.shutdown(socket.SHUT_WR)
                if receiver.stdout.readline() != b"done\n":
                    raise RuntimeError("the receiver has failed")
            return time.monotonic() - began
        finally:
            receiver.stdout.close()
            receiver.terminate()
            receiver.wait()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)

    def drain(self):
        """A host with many servers is emptied by one command."""
        # Nothing to boot from: the firmware waits, and costs next to nothing.
        blank = os.path.join(self.scratch, "blank.raw")
        with open(blank, "wb") as file:
            file.truncate(1 << 20)
        image = self.client.make_image("blank", blank, disk_format="raw", visibility="public")
        flavor = self.flavor("small", SERVER_MIB, 1)
        for number in range(SERVERS):
            body = {"name": f"small-{number}", "imageRef": image, "flavorRef": flavor, "networks": "auto",
                    "availability_zone": "nova:host1"}
            server = self.client.compute("POST", "/servers", {"server": body})["server"]["id"]
            wait_status(self.client, server, "ACTIVE")
        control = self.cloud.control
        began = time.monotonic()
        done = subprocess.run(
            [os.path.join(BINARIES, "apus"), "host", "drain", "host1", "--parallel", str(PARALLEL), "--json"],
            env=control.environment, capture_output=True, text=True, timeout=1800)
        took = time.monotonic() - began
        if not done.stdout.strip():
            raise RuntimeError(f"apus host drain ended with {done.returncode}: {done.stderr}")
        rows = json.loads(done.stdout)["servers"]
        moved = [row for row in rows if row["host"] == "host2" and not row["reason"]]
        self.report.add("drain.s", took, "s", servers=SERVERS, memory=SERVER_MIB, parallel=PARALLEL,
                        failures=SERVERS - len(moved), longest=max((row["seconds"] for row in moved), default=None))
        for server in self.client.servers():
            self.cloud.remove(server["id"])
        control.cli("host", "undrain", "host1")


def reaches(address, port):
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def slow(cloud):
    for host in cloud.agents if MEGABITS else ():
        subprocess.run(in_host(
            host, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", f"{MEGABITS}mbit", "burst", "1mb",
            "latency", "100ms"), check=True)


def main():
    rounds = count(3)
    report, checks = Report(), Checks()
    addresses = {name: host["address"] for name, host in lab_hosts().items()}
    with ControlPlane(BINARIES, addresses["host1"], ROOMY_CONTROL) as control:
        control.start()
        with Cloud(control, checks, addresses) as cloud:
            for agent in cloud.agents.values():
                agent.options += [word for setting in (*ROOMY_AGENT, RUNS) for word in ("--set", setting)]
                agent.enroll()
                agent.start(ready="serving")
            cloud.wait_for_states(**{name: "up" for name in cloud.agents})
            cloud.image = cloud.client.make_image("test-guest", test_image(), visibility="public")
            slow(cloud)
            bench = Bench(cloud, report)
            only = os.environ.get("APUS_BENCH_PARTS", "live,block,cold,drain").split(",")
            if "live" in only:
                bench.share(True)
                bench.live(rounds)
                bench.share(False)
            flavor = bench.flavor("bench-disk", 128)
            if "block" in only:
                bench.block(rounds, flavor)
            if "cold" in only:
                bench.cold(rounds, flavor)
            if "drain" in only:
                bench.drain()
    report.finish()
    return 0


def prepare():
    programs(BINARIES, *PROGRAMS)
    test_image()


in_private_host(main, prepare, hosts=2, flags=["--same-network"])
