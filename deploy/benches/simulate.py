"""What a control plane needs for many hosts that are only played (`apus simulate`), how soon it places a burst, and
how soon others go on with what a conductor was at that is killed."""

import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_host import clean_environment  # noqa: E402
from report import Report  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
HOSTS = os.environ.get("APUS_BENCH_HOSTS") or "1000,10000"
SECONDS = os.environ.get("APUS_BENCH_SECONDS") or "60"
RATE, LIFETIME, BURST = "20", "20", 1_000


def simulate(*arguments):
    done = subprocess.run(
        [os.path.join(BINARIES, "apus"), "simulate", "--json", "--seed", "1", "--failures", "0", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=clean_environment(), check=False)
    if done.returncode != 0:
        sys.exit(f"apus simulate {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main():
    report = Report()
    for hosts in HOSTS.split(","):
        said = simulate("--hosts", hosts, "--rate", RATE, "--seconds", SECONDS, "--lifetime", LIFETIME)
        given = {"hosts": int(hosts), "rate": int(RATE)}
        for process in said["processes"]:
            name = process["program"].removeprefix("apus-")
            report.add(f"simulate.{name}_cores", process["cores"], "", **given)
            report.add(f"simulate.{name}_mib", process["memory_mib"], "MiB", **given)
        report.add("simulate.dropped", said["dropped"], "", **given)
        # Never more than `rate`: what was asked for stands beside it, and what could not even be sent.
        report.add("simulate.launches_per_s", said["launches_per_second"], "1/s", **given)
        report.add("simulate.unsent", said["unsent"], "", **given)
        report.add("simulate.database_mib", said["database_mib"], "MiB", **given)
    said = simulate("--hosts", "1000", "--burst", str(BURST))
    report.add("simulate.burst_s", said["burst_s"], "s", hosts=1000, servers=BURST)
    said = simulate("--hosts", "1000", "--rate", RATE, "--seconds", SECONDS, "--conductors", "3", "--kills", "10")
    taken = said.get("failovers_s", [])
    if not taken:
        sys.exit("no conductor died while it was at anything")
    given = {"hosts": 1000, "rate": int(RATE), "kills": len(taken)}
    report.add("failover.s", statistics.median(taken), "s", **given)
    report.add("failover.longest_s", max(taken), "s", **given)
    report.finish()


main()
