"""More servers than a host can hold, all at once, placed by two schedulers that do not know of each other: as many run as
fit, and the books are right all the while."""

import collections
import concurrent.futures
import datetime
import threading
import time

from apus_daemons import Agent, ControlPlane
from apus_host import test_image, wait_for

WANTED, PLACES = 100, 60
AT_ONCE = 10
# A guest of that size stays in its firmware, and costs next to nothing.
MEMORY_MIB = 16
# What each takes beside it.
OVERHEAD_MIB = 4
SIZE = {"vcpus": 1, "memory_mib": MEMORY_MIB + OVERHEAD_MIB, "disk_gib": 1}
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
        watch = Watch(control.client(), "crowded", memory)
        watch.start()
        watch.waits(0)

        def some(first):
            # The connection of a client is one thread's.
            own = control.client()
            return [
                own.create(f"crowd-{number}", image, flavor, networks="none")
                for number in range(first, WANTED, AT_ONCE)]

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            made = [identifier for part in pool.map(some, range(AT_ONCE)) for identifier in part]

        def ended():
            servers = client.servers()
            under_way = [s for s in servers if s["status"] == "BUILD" or s["OS-EXT-STS:task_state"]]
            return servers if len(servers) == WANTED and not under_way else None

        servers = wait_for(ended, SECONDS, "all servers to be settled")
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
        watch.waits(PLACES)
        self.books(client, {server["id"] for server in running}, memory, "with all places taken")
        for server in servers:
            client.compute("DELETE", f"/servers/{server['id']}")
        wait_for(lambda: not client.servers(), SECONDS, "the servers' end")
        self.books(client, set(), reserved, "after all are deleted")
        watch.waits(0)
        watch.stop()
        checks.check(
            f"at each of {len(watch.seen)} looks journal, tracker and database told of the same claims, "
            f"at {sum(watch.equal.values())} with nothing between", not watch.seen and "there was none" or
            watch.wrong and f"{len(watch.wrong)}: {watch.wrong[:3]}")

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
    """Looks at the host's account all the while: journal, tracker, database and servers must tell of the same claims.

    The journal's events are the history of how many claims there were. They and the claims are read at one moment, and are
    equal at each look. The other accounts have each been the journal's at some moment around the look, and no other:

    - the tracker makes a claim before the transaction ends that records it, which may be one with others', and gives one
      back after that which removes it;
    - the database has the tracker's account once the agent's report has come, which goes out with each change.

    Where nothing has changed for LAG_SECONDS both are equal to the journal.
    """

    LAG_SECONDS, AHEAD_SECONDS = 5, 1
    EVENTS = 1000

    def __init__(self, client, host, memory):
        super().__init__(daemon=True)
        self.client, self.host, self.memory = client, host, memory
        self.over = threading.Event()
        self.error, self.wrong, self.seen = None, [], []
        # {claims: looks at which nothing had changed for so long}.
        self.equal = collections.Counter()

    def run(self):
        try:
            servers = self.servers()
            while not self.over.is_set():
                began = time.time()
                seen = self.client.apus("GET", f"/hosts/{self.host}?events={self.EVENTS}")["host"]
                ended = time.time()
                before, servers = servers, self.servers()
                self.wrong += [f"look {len(self.seen)}: {problem}" for problem in self.look(seen, before, servers)]
                at, count = self.history(seen)[-1]
                if at <= began - self.LAG_SECONDS:
                    self.equal[count] += 1
                self.seen.append((began, ended, seen["now"], seen["report"]))
            # What was ahead of the journal its events tell only later.
            history = self.history(seen)
            for number, account in enumerate(self.seen):
                self.wrong += [f"look {number}: {problem}" for problem in self.accounts(history, *account)]
        except Exception as error:  # noqa: BLE001 (told by stop)
            self.error = error

    def servers(self):
        return {server["id"]: server for server in self.client.servers()}

    def history(self, seen):
        """[(when, how many claims there were from then on)], oldest first."""
        if len(seen["events"]) == self.EVENTS:
            raise RuntimeError("there were too many events for one look")
        counts = [(0, 0)]
        for event in reversed(seen["events"]):
            moment = datetime.datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp()
            counts.append((moment, counts[-1][1] + {"claimed": 1, "released": -1}[event["change"]]))
        return counts

    def look(self, seen, before, after):
        """What is wrong with the claims themselves; `before` and `after` the look the servers were these."""
        if seen["claims_error"]:
            return [seen["claims_error"]]
        claims, count = seen["claims"], self.history(seen)[-1][1]
        holders, problems = {claim["instance_id"] for claim in claims}, []
        if not count == len(claims) == len(holders):
            problems.append(f"{len(claims)} claims of {len(holders)}, by the events {count}")
        if odd := [claim for claim in claims if claim["resources"] != SIZE]:
            problems.append(f"claims of another size: {odd}")
        # A server that runs before and after has its claim; who has one is a server that the database places here.
        running = {i for i, server in after.items() if settled(server) and i in before and settled(before[i])}
        placed = {i for servers in (before, after) for i, server in servers.items()
                  if server["OS-EXT-SRV-ATTR:host"] == self.host}
        if not running <= holders <= placed:
            problems.append(f"without a claim {sorted(running - holders)}, claims of {sorted(holders - placed)}")
        return problems

    def accounts(self, history, began, ended, now, report):
        """What was wrong with the tracker's account and the database's in a look."""
        first = max(n for n, (at, _) in enumerate(history) if at <= began - self.LAG_SECONDS)
        allowed = {count for at, count in history[first:] if at < ended + self.AHEAD_SECONDS}
        problems = []
        for name, account in (("tracker", now), ("database", report)):
            used, reserved = account["used"], account["reserved"]
            if not any(used == {key: reserved[key] + count * SIZE[key] for key in SIZE} for count in allowed):
                problems.append(f"the {name} has {used} used, {reserved} reserved, claims were {sorted(allowed)}")
            if used["memory_mib"] > self.memory:
                problems.append(f"the {name} has promised {used} of {self.memory} MiB")
        return problems

    def waits(self, claims):
        """Waits for a look at which all accounts had to be equal, with so many claims."""
        before = self.equal[claims]
        wait_for(lambda: self.equal[claims] > before or self.error, SECONDS, f"a look at {claims} claims at rest")

    def stop(self):
        self.over.set()
        self.join()
        if self.error:
            raise self.error


def settled(server):
    return server["status"] == "ACTIVE" and server["OS-EXT-STS:task_state"] is None
