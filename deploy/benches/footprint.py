"""The agent as a process of its own, idle, with libvirtd running: memory, threads, start to first report."""

import os
import sqlite3
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_host import Apus, in_private_host  # noqa: E402
from report import Report, count  # noqa: E402

NAME = "bench-agent"
SETTLE_SECONDS = 20


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


class Agent:
    def __init__(self, host):
        self.host = host
        self.state = os.path.join(host.folder, "agent")
        os.mkdir(self.state, 0o711)
        self.program = os.path.join(ROOT, ".build", "release", "apus-compute")
        self.database = sqlite3.connect(f"file:{host.state}/apus.db?mode=ro", uri=True, isolation_level=None)
        self.options = [
            "--set", f"DEFAULT.host={NAME}", "--set", f"DEFAULT.state_path={self.state}",
            "--set", "compute.listen=127.0.0.1:8793",
        ]

    def join(self):
        token = self.host.run([self.host.program, "host", "enroll", NAME]).strip().splitlines()[-1]
        path = os.path.join(self.host.folder, "token")
        with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(token)
        self.host.run([self.program, *self.options, "--join", self.host.endpoints["conductor"], "--token-file", path])

    def sequence(self):
        row = self.database.execute("SELECT sequence FROM hosts WHERE name = ?", (NAME,)).fetchone()
        return row[0] if row else -1

    def start(self):
        """The process, and the seconds from its start until its first report is in the database."""
        before = self.sequence()
        log = open(os.path.join(self.host.folder, "agent.log"), "ab")
        began = time.monotonic()
        process = subprocess.Popen([self.program, *self.options], stdout=log, stderr=log, env=self.host.environment)
        while self.sequence() <= before:
            if process.poll() is not None:
                raise RuntimeError(f"apus-compute ended with {process.returncode}: see {log.name}")
            if time.monotonic() - began > 60:
                process.kill()
                raise TimeoutError("no report in 60 s")
            time.sleep(0.002)
        return process, time.monotonic() - began


def main():
    report = Report()
    with Apus("release") as host:
        host.start()
        agent = Agent(host)
        agent.join()
        times = []
        process = None
        try:
            for index in range(count(5) + 1):
                process, elapsed = agent.start()
                # The first start warms libvirtd's probes and the page cache.
                if index > 0:
                    times.append(elapsed)
                if index < count(5):
                    process.terminate()
                    process.wait(30)
            time.sleep(SETTLE_SECONDS)
            pss, anonymous, threads = memory(process.pid)
        finally:
            if process and process.poll() is None:
                process.terminate()
                process.wait(30)
        report.add("footprint.pss_mib", pss, "MiB", instances=0)
        report.add("footprint.anon_mib", anonymous, "MiB", instances=0)
        report.add("footprint.threads", threads, "1", instances=0)
        report.add("footprint.start_s", statistics.median(times), "s", instances=0, n=len(times))
    report.finish()
    return 0


in_private_host(main)
