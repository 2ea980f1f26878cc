"""The audit of the host's resources with many domains, over one bulk call of libvirt for their statistics.

Also how many bytes the report of it takes, when nothing has changed and after one launch.
"""

import os
import re
import statistics
import sys
import time
import urllib.request

import libvirt

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_daemons import Agent, ControlPlane  # noqa: E402
from apus_host import in_private_host, programs, test_image, wait_for  # noqa: E402
from crowd import ROOMY_AGENT, ROOMY_CONTROL, make_paused, tiny_flavor, wait_status, wait_up  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
METRICS = "127.0.0.1:8799"
TASK = "update_available_resource"
AUDITS, CALLS = 20, 21
SECONDS = 120


def metrics():
    """{name with labels: value} of the agent."""
    with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def audits(found):
    """How many there were, and how many seconds they took in all."""
    parts = {}
    for name, value in found.items():
        match = re.fullmatch(rf'agent_periodic_seconds_(count|sum)\{{task="{TASK}"\}}', name)
        if match:
            parts[match[1]] = value
    return parts.get("count", 0), parts.get("sum", 0)


def size(method):
    return metrics().get(f'rpc_client_request_bytes{{method="conductor.{method}"}}', 0)


def main():
    instances = int((os.environ.get("APUS_BENCH_INSTANCES") or "200").split(",")[0])
    wanted = count(AUDITS)
    report = Report()
    with ControlPlane(BINARIES, options=ROOMY_CONTROL) as control:
        control.start()
        agent = Agent(
            control, "bench-agent",
            options=(*ROOMY_AGENT, "DEFAULT.update_resources_interval=1", "DEFAULT.periodic_fuzzy_delay=0",
                     f"metrics.listen={METRICS}"))
        agent.enroll()
        agent.start(ready="serving")
        try:
            client = control.client()
            wait_up(client)
            image, flavor = client.make_image("guest", test_image()), tiny_flavor(client)
            make_paused(control.client, image, flavor, instances)
            time.sleep(5)
            first, before = audits(metrics())
            wait_for(lambda: audits(metrics())[0] >= first + wanted, SECONDS, "the audits", pause=0.5)
            last, after = audits(metrics())
            audit = (after - before) / (last - first)
            idle = size("report_host_change")
            connection = libvirt.openReadOnly("qemu:///system")
            took = []
            for _ in range(CALLS):
                began = time.monotonic()
                found = connection.getAllDomainStats(0, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
                took.append(time.monotonic() - began)
            connection.close()
            if len(found) != instances:
                raise RuntimeError(f"{len(found)} domains, not {instances}")
            bulk = statistics.median(took)
            server = client.create("one-more", image, flavor, networks="none")
            sizes = set()

            def settled():
                sizes.add(size("report_host_change"))
                return client.find(server)["status"] == "ACTIVE"

            wait_for(settled, SECONDS, "one more server", pause=0.01)
            wait_status(client, server, "ACTIVE")
        finally:
            agent.stop()
    report.add("audit.ratio", audit / bulk, "1", domains=instances, audits=int(last - first))
    report.add("audit.ms", audit * 1000, "ms", domains=instances)
    report.add("audit.bulk_ms", bulk * 1000, "ms", domains=instances, calls=CALLS)
    report.add("report.bytes", idle, "B", when="idle")
    report.add("report.bytes", max(sizes), "B", when="after one launch")
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus", "apus-api", "apus-compute", "apus-conductor", "apus-scheduler")
    test_image()


in_private_host(main, prepare)
