"""Processors of servers' own, from the API to the pins that libvirt tells: the host has two, and gives one away so."""

import json
import re

from apus_host import virsh, wait_for
from guests import Guest, differs, told

SHARED, DEDICATED = 0, 1
SECONDS = 60


def run(cloud, checks):
    client = cloud.control.client()
    usual = list(cloud.agent.options)
    body = {"flavor": {"name": "own", "ram": 128, "vcpus": 1, "disk": 1}}
    flavor = client.compute("POST", "/flavors", body)["flavor"]["id"]
    client.compute("POST", f"/flavors/{flavor}/os-extra_specs", {"extra_specs": {"hw:cpu_policy": "dedicated"}})
    guests = []
    try:
        restart(cloud, client, [f"compute.cpu_dedicated_set={DEDICATED}", f"compute.cpu_shared_set={SHARED}"])
        first = Guest(cloud, "own-1", cloud.image, flavorRef=flavor)
        guests.append(first)
        first.ready()
        checks.check("dedicated: the first server is pinned to the dedicated CPU", pins(first, client, DEDICATED))
        checks.check("dedicated: Placement has one PCPU, and it is taken", settles(client, [1, 1]))

        second = Guest(cloud, "own-2", cloud.image, flavorRef=flavor)
        guests.append(second)
        fault = second.settle("ERROR").get("fault") or {}
        said = f"{fault.get('message', '')} {fault.get('details', '')}"
        checks.check(
            "dedicated: a second has no valid host, for want of dedicated CPUs",
            told(said, "No valid host", "NUMATopologyFilter", "short of dedicated CPUs"))
        checks.check("dedicated: there is no domain of it", second.domain())

        beside = Guest(cloud, "shares", cloud.image)
        guests.append(beside)
        beside.ready()
        checks.check("dedicated: one that shares fits beside, on the shared CPU", pins(beside, None, SHARED))

        first.remove()
        checks.check("dedicated: with it gone it is nobody's", settles(client, [1, 0]))
        third = Guest(cloud, "own-3", cloud.image, flavorRef=flavor)
        guests.append(third)
        third.ready()
        checks.check("dedicated: with the first gone a third has its CPU", pins(third, client, DEDICATED))
        # What is pinned stays so in the next life of the agent, and of the guest.
        cloud.restart_agent()
        wait_up(client)
        third.act("reboot", {"type": "HARD"}, brings="ACTIVE")
        checks.check("dedicated: it keeps it over a hard reboot", pins(third, client, DEDICATED))
        fourth = Guest(cloud, "own-4", cloud.image, flavorRef=flavor)
        guests.append(fourth)
        fourth.settle("ERROR")
        checks.check("dedicated: a restarted agent still knows whose it is", settles(client, [1, 1]))
    finally:
        for guest in guests:
            guest.remove()
        client.compute("DELETE", f"/flavors/{flavor}")
        cloud.agent.options = usual
        cloud.restart_agent()
        wait_up(client)


def restart(cloud, client, settings):
    cloud.agent.options += [word for setting in settings for word in ("--set", setting)]
    cloud.restart_agent()
    wait_for(lambda: client.hypervisors()[0]["vcpus"] == 1, SECONDS, "one CPU to share")
    wait_up(client)


def wait_up(client):
    wait_for(lambda: client.hypervisors()[0]["state"] == "up", SECONDS, "the host to be up")


def pins(guest, client, cpu):
    """What is wrong with the processors that a server of one vCPU may run on; None when it is this one alone."""
    told_by_libvirt = re.findall(r"^\s*(\d+)\s+(\S+)\s*$", virsh("vcpupin", guest.id), re.MULTILINE)
    if told_by_libvirt != [("0", str(cpu))]:
        return f"pinned as {told_by_libvirt}"
    # Where the kernel lets QEMU's thread of the vCPU run.
    affinity = re.search(r"^CPU Affinity:\s+(\S+)", virsh("vcpuinfo", guest.id), re.MULTILINE)[1]
    allowed = [number for number, mark in enumerate(affinity) if mark == "y"]
    if allowed != [cpu]:
        return f"allowed to run on {allowed}"
    if client is None:
        return None
    status, _, answer = client.raw("GET", f"/compute/v2.1/servers/{guest.id}/topology",
                                   headers={"OpenStack-API-Version": "compute 2.78"})
    nodes = json.loads(answer).get("nodes", [])
    shown = [node.get("cpu_pinning") for node in nodes]
    return None if (status, shown) == (200, [{"0": cpu}]) else f"shown as {status} {nodes}"


def dedicated(client):
    """[how many CPUs are dedicated, how many of them are somebody's], by Placement's names."""
    host = client.request("GET", "/placement/resource_providers")["resource_providers"][0]["uuid"]
    total = client.request("GET", f"/placement/resource_providers/{host}/inventories")["inventories"]["PCPU"]["total"]
    return [total, client.request("GET", f"/placement/resource_providers/{host}/usages")["usages"]["PCPU"]]


def settles(client, wanted):
    """None once the host has reported so."""
    try:
        wait_for(lambda: dedicated(client) == wanted, SECONDS, "the host's report", pause=0.2)
    except TimeoutError:
        pass
    return differs(dedicated(client), wanted)
