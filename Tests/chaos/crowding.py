"""More servers than a host can hold, all at once, placed by two schedulers that do not know of each other: as many run as
fit, and the books are right all the while."""

import concurrent.futures
import threading

from apus_daemons import Agent, ControlPlane
from apus_host import test_image, wait_for

WANTED, PLACES = 100, 60
AT_ONCE = 10
# A guest of that size stays in its firmware, and costs next to nothing.
MEMORY_MIB = 16
# What each takes beside it.
OVERHEAD_MIB = 4
CONTROL = ("quota.instances=-1", "quota.cores=-1", "quota.ram=-1")
AGENT = (
    "DEFAULT.cpu_allocation_ratio=1000", "DEFAULT.disk_allocation_ratio=1000", "DEFAULT.shutdown_timeout=1",
    "DEFAULT.ram_allocation_ratio=1", f"compute.memory_overhead_mib={OVERHEAD_MIB}")
SECONDS = 300


class Crowding:
    def __init__(self, binaries, checks):
        self.binaries, self.checks = binaries, checks

    def run(self):
        with ControlPlane(self.binaries, name="crowded-control", options=CONTROL, conductors=2) as control:
            control.start()
            known = (*AGENT, f"compute.conductors={','.join(control.conductor_urls)}")
            agent = Agent(control, "crowded", options=known)
            agent.enroll()
            agent.start(ready="serving")
            try:
                client = control.client()
                self.wait_up(client)
                memory = client.hypervisors()[0]["memory_mb"]
                agent.stop()
                # All but the places for the servers is the host's own.
                reserved = memory - PLACES * (MEMORY_MIB + OVERHEAD_MIB)
                agent = Agent(
                    control, "crowded", options=(*known, f"DEFAULT.reserved_host_memory_mb={reserved}"))
                agent.start(ready="serving")
                wait_for(lambda: client.hypervisors()[0]["memory_mb_used"] == reserved, SECONDS, "the new reserve")
                self.crowd(control, client, memory, reserved)
            finally:
                agent.stop()

    @staticmethod
    def wait_up(client):
        wait_for(lambda: any(h["state"] == "up" for h in client.hypervisors()), SECONDS, "a host that is up")

    def crowd(self, control, client, memory, reserved):
        checks = self.checks
        image = client.make_image("guest", test_image())
        flavor = client.compute(
            "POST", "/flavors", {"flavor": {"name": "small", "ram": MEMORY_MIB, "vcpus": 1, "disk": 1}})["flavor"]["id"]
        watch = Watch(control.client(), memory)
        watch.start()
        def some(first):
            # The connection of a client is one thread's.
            own = control.client()
            return [
                own.create(f"crowd-{number}", image, flavor, networks="none")
                for number in range(first, WANTED, AT_ONCE)]

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            made = [identifier for part in pool.map(some, range(AT_ONCE)) for identifier in part]

        def settled():
            servers = client.servers()
            under_way = [s for s in servers if s["status"] == "BUILD" or s["OS-EXT-STS:task_state"]]
            return servers if len(servers) == WANTED and not under_way else None

        servers = wait_for(settled, SECONDS, "all servers to be settled")
        running = [server for server in servers if server["status"] == "ACTIVE"]
        refused = [server for server in servers if server["status"] == "ERROR"]
        checks.check(
            f"of {WANTED} servers at once the {PLACES} that fit run",
            len(running) != PLACES and f"{len(running)} run, {len(refused)} in ERROR")
        reasons = {server["fault"]["message"] for server in refused}
        placed = control.placements()
        checks.check(f"each of two schedulers has placed some ({placed})", not all(placed) and "one has placed none")
        checks.check(
            "the others are told that no host has room",
            len(refused) != WANTED - PLACES or any("No valid host" not in reason for reason in reasons) and reasons)
        odd = {server["id"] for server in servers} ^ set(made)
        checks.check("each server was made once", odd)
        self.books(client, {server["id"] for server in running}, memory, "with all places taken")
        for server in servers:
            client.compute("DELETE", f"/servers/{server['id']}")
        wait_for(lambda: not client.servers(), SECONDS, "the servers' end")
        self.books(client, set(), reserved, "after all are deleted")
        worst, looks = watch.stop()
        checks.check(
            f"at each of {looks} looks the database showed no more memory used than there is",
            worst > memory and f"{worst} of {memory} MiB")

    def books(self, client, holders, used, when):
        """What the tracker, the journal and the database say of the host is one thing."""
        def wrong():
            host = client.apus("GET", "/hosts/crowded?events=1000")["host"]
            if host["claims_error"]:
                return host["claims_error"]
            held = {claim["instance_id"] for claim in host["claims"]}
            total = sum(claim["resources"]["memory_mib"] for claim in host["claims"])
            figures = (
                host["now"]["used"]["memory_mib"], host["report"]["used"]["memory_mib"],
                total + host["now"]["reserved"]["memory_mib"])
            return None if held == holders and set(figures) == {used} else f"{len(held)} claims, used {figures}, not {used}"

        try:
            wait_for(lambda: wrong() is None, 20, "the books to agree", pause=0.1)
        except TimeoutError:
            pass
        error = wrong()
        self.checks.check(f"tracker, journal and database agree {when}", error)


class Watch(threading.Thread):
    """Looks at the host's record all the while, as the scheduler does."""

    def __init__(self, client, memory):
        super().__init__(daemon=True)
        self.client, self.memory = client, memory
        self.worst, self.looks, self.over = 0, 0, threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.over.is_set():
                self.worst = max(self.worst, self.client.hypervisors()[0]["memory_mb_used"])
                self.looks += 1
        except Exception as error:  # noqa: BLE001 (told by stop)
            self.error = error

    def stop(self):
        self.over.set()
        self.join()
        if self.error:
            raise self.error
        return self.worst, self.looks
