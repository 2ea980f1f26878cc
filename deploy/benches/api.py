"""GET /servers/detail with 1,000 servers: answers a second of an API on one core, asked from another."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_client import Client, Transport, read_clouds_yaml  # noqa: E402
from apus_host import clean_environment, end, wait_for  # noqa: E402
from report import Report, percentile  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
SECONDS = int(os.environ.get("APUS_BENCH_SECONDS") or 10)
SERVERS, CONNECTIONS = 1_000, 2


def filled():
    """A folder with the database of a control plane that has so many servers."""
    done = subprocess.run(
        [os.path.join(BINARIES, "apus"), "simulate", "--hosts", "100", "--burst", str(SERVERS), "--build", "0",
         "--failures", "0", "--keep"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=clean_environment(), check=False)
    kept = re.search(r"^kept: (.+)$", done.stderr, re.MULTILINE)
    if done.returncode != 0 or not kept:
        sys.exit(f"apus simulate ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return kept[1]


def ask(base, token, until, times):
    transport = Transport(base)
    while time.monotonic() < until:
        began = time.monotonic()
        status, _, body = transport.send(
            "GET", f"/compute/v2.1/servers/detail?limit={SERVERS}", {"X-Auth-Token": token}, None)
        if status != 200 or len(body) < SERVERS * 500:
            raise RuntimeError(f"HTTP {status} with {len(body)} bytes")
        times.append(time.monotonic() - began)
    transport.close()


def measure(client, report):
    token = client.authenticate()
    listed = client.compute("GET", f"/servers/detail?limit={SERVERS}")["servers"]
    if len(listed) != SERVERS:
        sys.exit(f"{len(listed)} servers are listed, not {SERVERS}")
    times = []
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=ask, args=(client.base, token, until, times)) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = {"servers": SERVERS, "connections": CONNECTIONS}
    report.add("api.servers_detail_per_s", len(times) / (time.monotonic() - began), "1/s", **given)
    report.add("api.servers_detail_p99_ms", 1_000 * percentile(times, 99), "ms", **given)


def main():
    report = Report()
    folder = filled()
    api = None
    try:
        log = os.path.join(folder, "api.log")
        with open(log, "wb") as file:
            api = subprocess.Popen(
                ["taskset", "-c", "0", os.path.join(BINARIES, "apus-api"), "--config-file", f"{folder}/apus.conf"],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=clean_environment())

        def listens():
            with open(log, "rb") as file:
                return b"api listens" in file.read() or api.poll() is not None

        wait_for(listens, 60, "the API to listen")
        os.sched_setaffinity(0, {1})
        measure(Client(read_clouds_yaml(f"{folder}/clouds.yaml")), report)
    finally:
        if api:
            end(api, 30)
        shutil.rmtree(folder, ignore_errors=True)
    report.finish()


main()
