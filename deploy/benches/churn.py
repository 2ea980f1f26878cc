"""The agent's memory after many operations over that after the first thousand, against libvirt's test driver.

Every operation is one request to the API, carried through by conductor and agent. The test driver keeps domains in the
agent's own memory, so as many are there at the second look as at the first.
"""

import concurrent.futures
import itertools
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_daemons import Agent, ControlPlane  # noqa: E402
from apus_host import INSIDE, in_private_host, programs, test_image, wait_for  # noqa: E402
from crowd import ROOMY_AGENT, ROOMY_CONTROL, act, tiny_flavor, wait_status, wait_up  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
WORLD = """<node><network><name>default</name><bridge name='virbr9'/><forward/>
<ip address='10.9.0.1' netmask='255.255.0.0'><dhcp><range start='10.9.0.2' end='10.9.3.254'/></dhcp></ip></network></node>
"""
WORKERS = 4
FIRST = 1_000
SETTLE_SECONDS = 15
# One server's life: what is asked, and what it is then.
LIFE = [
    ("pause", None, "PAUSED"), ("unpause", None, "ACTIVE"), ("reboot", {"type": "HARD"}, "ACTIVE"),
    ("os-stop", None, "SHUTOFF"), ("os-start", None, "ACTIVE"), ("reboot", {"type": "SOFT"}, "ACTIVE"),
]


class Worker:
    def __init__(self, client, image, flavor, number):
        self.client, self.image, self.flavor, self.number = client, image, flavor, number

    def run(self, operations):
        """Carries out so many operations, and leaves no server."""
        left = operations
        for life in itertools.count():
            if left <= 1:
                return
            server = self.client.create(f"churn-{self.number}-{life}", self.image, self.flavor)
            wait_status(self.client, server, "ACTIVE", pause=0.004)
            left -= 2
            for action, argument, status in LIFE * 3:
                if left <= 0:
                    break
                act(self.client, server, action, argument, status, pause=0.004)
                left -= 1
            self.client.compute("DELETE", f"/servers/{server}")
            wait_for(lambda: self.client.find(server) is None, 60, "the server's end", pause=0.004)


def memory(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        pss = next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        anonymous = next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
    return pss / 1024, anonymous / 1024


def main():
    operations = count(20_000)
    first = min(FIRST, operations // 2)
    report = Report()
    world = os.path.join(os.environ[INSIDE], "world.xml")
    with open(world, "w", encoding="ascii") as file:
        file.write(WORLD)
    with ControlPlane(BINARIES, options=ROOMY_CONTROL) as control:
        control.start()
        agent = Agent(
            control, "bench-agent",
            options=(*ROOMY_AGENT, f"libvirt.connection_uri=test://{world}", "libvirt.wait_soft_reboot_seconds=1"))
        agent.enroll()
        agent.start(ready="serving")
        try:
            client = control.client()
            wait_up(client)
            image, flavor = client.make_image("guest", test_image()), tiny_flavor(client)
            workers = [Worker(control.client(), image, flavor, number) for number in range(WORKERS)]
            sizes = []
            with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
                began = time.monotonic()
                for part in (first, operations - first):
                    list(pool.map(lambda worker: worker.run(part // WORKERS), workers))
                    time.sleep(SETTLE_SECONDS)
                    sizes.append(memory(agent.process.pid))
                took = time.monotonic() - began - 2 * SETTLE_SECONDS
        finally:
            agent.stop()
    (first_pss, first_anonymous), (last_pss, last_anonymous) = sizes
    report.add("churn.ratio", last_pss / first_pss, "1", operations=operations, after=first)
    report.add("churn.anon_ratio", last_anonymous / first_anonymous, "1", operations=operations, after=first)
    report.add("churn.pss_mib", last_pss, "MiB", operations=operations, first=round(first_pss, 2))
    report.add("churn.per_s", operations / took, "1/s", workers=WORKERS)
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus", "apus-api", "apus-compute", "apus-conductor", "apus-scheduler")
    test_image()


in_private_host(main, prepare)
