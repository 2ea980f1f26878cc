"""The agent as a process of its own, idle, with libvirtd running: memory, threads, processor, start to first report.

With no instances, and then with as many paused guests of 16 MiB as APUS_BENCH_INSTANCES says, one number after another.
APUS_BENCH_SECONDS measures the processor for so long with each of these numbers, or without them with 100 instances.
Conductor, scheduler and API are processes of their own too. A start ends when the conductor has stored the report.
"""

import os
import sqlite3
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_daemons import Agent, ControlPlane  # noqa: E402
from apus_host import in_private_host, programs, test_image  # noqa: E402
from crowd import ROOMY_AGENT, ROOMY_CONTROL, make_paused, tiny_flavor, wait_up  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
NAME = "bench-agent"
# Three heartbeats: what the first calls leave allocated is then there.
SETTLE_SECONDS = 35
# What the processor is measured with, unless other numbers are asked for.
IDLE_INSTANCES = 100


def memory(pid):
    """MiB of PSS and of anonymous resident memory, and the number of threads."""
    values = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            key, amount = line.split()[:2]
            values[key.rstrip(":")] = int(amount)
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return values["Pss"] / 1024, int(status["RssAnon"].split()[0]) / 1024, int(status["Threads"])


def biggest(pid, number=8):
    """The mappings with the most PSS, as one text."""
    found = {}
    with open(f"/proc/{pid}/smaps", encoding="ascii") as file:
        name = ""
        for line in file:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                name = os.path.basename(words[5]) if len(words) > 5 else "anonymous"
            elif words[0] == "Pss:":
                found[name] = found.get(name, 0) + int(words[1])
    top = sorted(found.items(), key=lambda item: -item[1])[:number]
    return " ".join(f"{name}={size / 1024:.1f}" for name, size in top)


class Start:
    """Starts the agent and measures when its first report is stored."""

    def __init__(self, control, agent):
        self.agent = agent
        self.database = sqlite3.connect(f"file:{control.state}/apus.db?mode=ro", uri=True, isolation_level=None)

    def sequence(self):
        row = self.database.execute("SELECT sequence FROM hosts WHERE name = ?", (NAME,)).fetchone()
        return row[0] if row else -1

    def __call__(self):
        before = self.sequence()
        began = time.monotonic()
        self.agent.start()
        while self.sequence() <= before:
            if self.agent.process.poll() is not None:
                raise RuntimeError(f"apus-compute ended with {self.agent.process.returncode}:\n{self.agent.tail()}")
            if time.monotonic() - began > 60:
                raise TimeoutError(f"no report in 60 s:\n{self.agent.tail()}")
            time.sleep(0.001)
        return time.monotonic() - began


def processor(pid, seconds):
    """Cores that a process used, over `seconds`."""
    def used():
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - began)


def measure(agent, start, report, instances, starts, seconds):
    times = []
    for _ in range(starts):
        agent.stop()
        times.append(start())
    time.sleep(SETTLE_SECONDS)
    pid = agent.process.pid
    pss, anonymous, threads = memory(pid)
    if os.environ.get("APUS_BENCH_TABLE"):
        print(f"{instances} instances, mappings in MiB: {biggest(pid)}", file=sys.stderr)
    report.add("footprint.pss_mib", pss, "MiB", instances=instances)
    report.add("footprint.anon_mib", anonymous, "MiB", instances=instances)
    report.add("footprint.threads", threads, "1", instances=instances)
    if seconds:
        report.add("footprint.cpu_cores", processor(pid, seconds), "cores", instances=instances, seconds=seconds)
    report.add(
        "footprint.start_s", statistics.median(times), "s", instances=instances, n=starts, most=round(max(times), 3))


def main():
    starts = count(5)
    asked = os.environ.get("APUS_BENCH_INSTANCES")
    seconds = int(os.environ.get("APUS_BENCH_SECONDS") or 0)
    counts = {0, *map(int, (asked or "50,200").split(","))}
    # Each takes its minutes: none for what no budget speaks of.
    watched = (counts if asked else {IDLE_INSTANCES}) if seconds else set()
    counts = sorted(counts | watched)
    report = Report()
    with ControlPlane(BINARIES, options=ROOMY_CONTROL) as control:
        control.start()
        agent = Agent(control, NAME, options=ROOMY_AGENT)
        agent.enroll()
        start = Start(control, agent)
        try:
            # The first start warms libvirtd's probes of QEMU and the page cache.
            start()
            image = flavor = None
            there = 0
            for instances in counts:
                if instances and not image:
                    client = control.client()
                    wait_up(client)
                    image, flavor = client.make_image("guest", test_image()), tiny_flavor(client)
                make_paused(control.client, image, flavor, instances - there, there)
                there = instances
                measure(agent, start, report, instances, starts, seconds if instances in watched else 0)
        finally:
            agent.stop()
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus", "apus-api", "apus-compute", "apus-conductor", "apus-scheduler")
    test_image()


in_private_host(main, prepare)
