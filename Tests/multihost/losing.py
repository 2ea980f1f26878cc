"""Agents that end, cables that are pulled, and a host that is shut out."""

import time

from apus_host import wait_for


def run(cloud, full):
    agent_ends(cloud)
    all_end(cloud)
    if full:
        cable(cloud)
    revoke(cloud)


def nothing_left(cloud, what):
    def left():
        return {host: (cloud.domains(host), cloud.folders(host)) for host in cloud.agents}

    try:
        wait_for(lambda: not any(d or f for d, f in left().values()), 60, "nothing to be left", pause=0.5)
        cloud.checks.check(f"{what}: nothing is left on the hosts")
    except TimeoutError:
        cloud.checks.check(f"{what}: nothing is left on the hosts", f"{left()}")


def misplaced(servers, host):
    """Those that are not ACTIVE on `host`, as text."""
    return [f"{s['name']}: {s['status']} on {s['OS-EXT-SRV-ATTR:host']}: {s.get('fault')}" for s in servers
            if (s["status"], s["OS-EXT-SRV-ATTR:host"]) != ("ACTIVE", host)]


def agent_ends(cloud):
    """An agent is killed; nobody knows it yet, and launches go on to the other host."""
    cloud.agents["host2"].kill()
    made = [cloud.settle(cloud.launch(f"left-{number}")) for number in (1, 2)]
    cloud.checks.check("with host2's agent gone servers run on host1", misplaced(made, "host1"))
    cloud.wait_for_states(host1="up", host2="down")
    cloud.checks.check("the host without its agent is down")
    cloud.agents["host2"].start(ready="serving")
    cloud.wait_for_states(host1="up", host2="up")
    cloud.checks.check("with its agent back it is up")
    for server in made:
        cloud.remove(server["id"])
    nothing_left(cloud, "launches past a dead agent")


def all_end(cloud):
    """No agent can be reached: the server ends in ERROR and says why."""
    for agent in cloud.agents.values():
        agent.kill()
    began = time.monotonic()
    server = cloud.settle(cloud.launch("stranded"), 90)
    fault = server.get("fault", {}).get("message", "")
    clear = "connect" in fault and ("host1" in fault or "host2" in fault)
    cloud.checks.check(
        f"agents that cannot be reached: ERROR, and why ({time.monotonic() - began:.0f} s)",
        (server["status"] != "ERROR" or not clear) and f"{server['status']}: {fault}")
    cloud.wait_for_states(host1="down", host2="down")
    late = cloud.settle(cloud.launch("late"))
    fault = late.get("fault", {}).get("message", "")
    cloud.checks.check(
        "hosts that are down: ERROR, and why",
        (late["status"] != "ERROR" or "No valid host" not in fault or "2 down" not in fault)
        and f"{late['status']}: {fault}")
    for agent in cloud.agents.values():
        agent.start(ready="serving")
    cloud.wait_for_states(host1="up", host2="up")
    for gone in (server, late):
        cloud.remove(gone["id"])
    nothing_left(cloud, "launches without a host")


def cable(cloud):
    """The cable of a host is pulled, and plugged in again after launches."""
    cloud.wire("host2", "down")
    try:
        made = [cloud.settle(cloud.launch(f"cut-{number}"), 120) for number in (1, 2)]
        cloud.checks.check("with host2's cable pulled, servers run on host1", misplaced(made, "host1"))
        cloud.wait_for_states(host1="up", host2="down")
    finally:
        cloud.wire("host2", "up")
    cloud.wait_for_states(host1="up", host2="up")
    cloud.checks.check("with the cable back the host is up")
    for server in made:
        cloud.remove(server["id"])
    nothing_left(cloud, "launches past a pulled cable")


def revoke(cloud):
    """A host is shut out: nothing it sends is believed, nothing is sent there, and its guests run on."""
    made = [cloud.settle(cloud.launch(f"before-{number}")) for number in (1, 2)]
    there = next((s for s in made if s["OS-EXT-SRV-ATTR:host"] == "host2"), None)
    if not cloud.checks.check("a server runs on the host to be shut out", there is None and f"{made}"):
        return
    secret = cloud.secret("host2")
    cloud.control.cli("host", "revoke", "host2")
    taken, said = cloud.heartbeat("host2", secret)
    cloud.checks.check("a revoked host's calls are refused", taken and said)
    cloud.wait_for_states(host1="up", host2="down")
    cloud.checks.check("a revoked host goes down")
    agent = cloud.agents["host2"]
    cloud.checks.check(
        "its agent runs on, and says why it is not heard",
        (agent.process.poll() is not None or "unauthenticated" not in agent.tail(60)) and agent.tail())
    cloud.checks.check("its guest runs on", there["id"] not in cloud.domains("host2") and "it does not")
    after = [cloud.settle(cloud.launch(f"after-{number}")) for number in (1, 2)]
    cloud.checks.check("new servers go to the other host", misplaced(after, "host1"))
    cloud.client.compute("DELETE", f"/servers/{there['id']}")
    try:
        wait_for(lambda: cloud.client.find(there["id"]) is None, 30, "its end", pause=0.1)
        cloud.checks.check("a server on a revoked host can be deleted")
    except TimeoutError:
        cloud.checks.check("a server on a revoked host can be deleted", f"{cloud.client.find(there['id'])}")
    for server in made + after:
        if server is not there:
            cloud.remove(server["id"])
    codes = [agent.stop() for agent in cloud.agents.values()] + cloud.control.stop()
    cloud.checks.check("every program ends on SIGTERM with exit code 0", any(codes) and f"{codes}")
