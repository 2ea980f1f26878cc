"""Many small servers on one host, for the benches that need a crowd."""

import concurrent.futures

from apus_host import wait_for

# Room for hundreds of servers of 16 MiB on any machine.
ROOMY_AGENT = (
    "DEFAULT.cpu_allocation_ratio=1000", "DEFAULT.ram_allocation_ratio=100", "DEFAULT.disk_allocation_ratio=1000",
    "DEFAULT.reserved_host_memory_mb=0", "DEFAULT.shutdown_timeout=1")
ROOMY_CONTROL = ("quota.instances=-1", "quota.cores=-1", "quota.ram=-1")
SETTLE_SECONDS = 300


def tiny_flavor(client, disk=1):
    """16 MiB: too little for a kernel, so the guest stays in its firmware and costs next to nothing."""
    body = {"flavor": {"name": "tiny", "ram": 16, "vcpus": 1, "disk": disk}}
    return client.compute("POST", "/flavors", body)["flavor"]["id"]


def wait_up(client):
    wait_for(lambda: any(h["state"] == "up" for h in client.hypervisors()), SETTLE_SECONDS, "a host that is up")


def wait_status(client, identifier, status, pause=0.05, seconds=SETTLE_SECONDS):
    """The server, once it has the status and nothing is under way. An error ends the wait."""
    def probe():
        server = client.find(identifier) or {"status": "gone", "OS-EXT-STS:task_state": None}
        if server["status"] == "ERROR" and status != "ERROR":
            raise RuntimeError(f"server {identifier}: {server.get('fault')}")
        return server if server["status"] == status and server["OS-EXT-STS:task_state"] is None else None

    return wait_for(probe, seconds, f"server {identifier} to be {status}", pause=pause)


def act(client, identifier, action, argument, status, pause=0.05):
    """An action, and its end; RuntimeError when that is not the status."""
    client.act(identifier, action, argument)

    def ended():
        server = client.find(identifier)
        return server if server["OS-EXT-STS:task_state"] is None else None

    server = wait_for(ended, SETTLE_SECONDS, f"the end of {action}", pause=pause)
    if server["status"] != status:
        raise RuntimeError(f"after {action} server {identifier} is {server['status']}: {last_action(client, identifier)}")


def last_action(client, identifier):
    """What the server's record says of the newest request."""
    newest = client.compute("GET", f"/servers/{identifier}/os-instance-actions")["instanceActions"][0]
    shown = client.compute("GET", f"/servers/{identifier}/os-instance-actions/{newest['request_id']}")["instanceAction"]
    return {"message": shown["message"], "events": shown["events"]}


def make_paused(new_client, image, flavor, count, first=0, parallel=4):
    """`count` more servers, each paused as soon as it runs."""
    def one(number):
        client = new_client()
        identifier = client.create(f"crowd-{number}", image, flavor, networks="none")
        wait_status(client, identifier, "ACTIVE")
        act(client, identifier, "pause", None, "PAUSED")
        return identifier

    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(one, range(first, first + count)))
