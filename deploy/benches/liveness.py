"""How soon the API knows: a guest that ended by itself, was destroyed by hand, or crashed; an agent that died."""

import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

from apus_daemons import Agent, ControlPlane  # noqa: E402
from apus_host import in_private_host, programs, test_image, virsh, wait_for  # noqa: E402
from crowd import ROOMY_AGENT, ROOMY_CONTROL, tiny_flavor, wait_status, wait_up  # noqa: E402
from report import Report, count  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]


def destroy(identifier):
    virsh("destroy", identifier)


def kill_qemu(identifier):
    name = virsh("domname", identifier).strip()
    with open(f"/run/libvirt/qemu/{name}.pid", encoding="ascii") as file:
        os.kill(int(file.read()), 9)


def main():
    rounds = count(10)
    report = Report()
    with ControlPlane(BINARIES, options=ROOMY_CONTROL) as control:
        control.start()
        agent = Agent(control, "bench-agent", options=ROOMY_AGENT)
        agent.enroll()
        agent.start(ready="serving")
        try:
            client = control.client()
            wait_up(client)
            image, flavor = client.make_image("guest", test_image()), tiny_flavor(client)
            server = client.create("watched", image, flavor)
            for cause, end in (("destroyed", destroy), ("killed", kill_qemu)):
                times = []
                for _ in range(rounds):
                    wait_status(client, server, "ACTIVE")
                    began = time.monotonic()
                    end(server)
                    wait_status(client, server, "SHUTOFF", pause=0.005, seconds=120)
                    times.append(time.monotonic() - began)
                    client.act(server, "os-start")
                report.add("liveness.event_s", statistics.median(times), "s", cause=cause, n=rounds, most=round(max(times), 3))
            wait_status(client, server, "ACTIVE")
            client.compute("DELETE", f"/servers/{server}")
            wait_for(lambda: client.find(server) is None, 60, "the server's end")
            agent.kill()
            began = time.monotonic()
            wait_for(lambda: client.hypervisors()[0]["state"] == "down", 120, "the agent to be noticed", pause=0.05)
            report.add("liveness.agent_s", time.monotonic() - began, "s", report_interval=10, service_down_time=25)
        finally:
            agent.stop()
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus", "apus-api", "apus-compute", "apus-conductor", "apus-scheduler")
    test_image()


in_private_host(main, prepare)
