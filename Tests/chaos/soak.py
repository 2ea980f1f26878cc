"""Minutes of random requests while agent and conductor are killed at random; in the end all books must agree."""

import http.client
import random
import threading
import time

from apus_client import Refused
from apus_host import wait_for

WORKERS = 4
# A server is there for so many actions at most.
MOST_ACTIONS = 4
# What may be asked of a server, by its status.
ACTIONS = {
    "ACTIVE": [("os-stop", None), ("reboot", {"type": "HARD"}), ("pause", None)],
    "SHUTOFF": [("os-start", None)],
    "PAUSED": [("unpause", None)],
}
# A conductor that is away, a server that is busy or gone, a quota that deletions will free: what a client must live with.
LOST = (http.client.HTTPException, OSError, Refused)
KILL_SECONDS = (3, 9)
SETTLE_SECONDS = 180
# How much longer a run may take until everything that is done to the processes was done once.
LATE_SECONDS = 90


# With it, snapshots are taken as well; each bears its server's name.
SNAPSHOT = "createImage"
PREFIX = "soak-"


class Bag:
    """Draws by lot, but each thing once before any comes again."""

    def __init__(self, chance, things):
        self.chance, self.things, self.left = chance, list(things), []
        self.rounds = 0

    def draw(self):
        if not self.left:
            self.left = self.chance.sample(self.things, len(self.things))
        drawn = self.left.pop()
        self.rounds += not self.left
        return drawn


class Soak:
    """`ground` is a cloud with one host (ground.py)."""

    actions = ACTIONS

    def __init__(self, ground, checks, seed, seconds):
        self.ground, self.checks, self.seed, self.seconds = ground, checks, seed, seconds
        self.over = threading.Event()
        # Everything that is done to the processes was done at least once.
        self.varied = threading.Event()
        # What was accepted: server, request, what was asked for.
        self.accepted = []
        self.deeds = {}
        self.requests = self.kills = self.asked = 0
        self.errors = []
        self.lock = threading.Lock()

    def run(self):
        workers = [threading.Thread(target=self.guarded, args=(self.work, n), daemon=True) for n in range(WORKERS)]
        killer = threading.Thread(target=self.guarded, args=(self.kill, WORKERS), daemon=True)
        for thread in (*workers, killer):
            thread.start()
        if not self.over.wait(self.seconds):
            until = time.monotonic() + LATE_SECONDS
            while time.monotonic() < until and not self.varied.is_set() and not self.over.is_set():
                time.sleep(0.1)
        self.over.set()
        for thread in (killer, *workers):
            thread.join(SETTLE_SECONDS)
        self.checks.check("requests and kills went on to the end", self.errors)
        ground = self.ground
        ground.client = ground.control.client()
        self.left([ground.settled(server["id"], SETTLE_SECONDS) for server in ground.client.servers()])
        wrong = ground.holds()
        self.checks.check("each kind of disturbance came", [deed for deed, count in self.deeds.items() if not count])
        self.checks.check(
            f"tracker, journal, database and libvirt agree after {self.requests} requests and {self.kills} kills in "
            f"{self.seconds} s", wrong)
        for server in ground.client.servers():
            ground.remove(server["id"])
        if any(name == SNAPSHOT for name, _ in self.actions["ACTIVE"]):
            images = self.snapshots(ground.client)
            unsettled = [image for image in images if image["status"] != "active"]
            self.checks.check(f"each of {self.asked} snapshots is whole or gone ({len(images)} are left)",
                              (unsettled and f"{unsettled}") or (not self.asked and "none was taken"))
            self.taken([image for image in images if image["status"] == "active"])
            for image in images:
                ground.client.image("DELETE", f"/images/{image['id']}")
        ends = self.ends()
        lost = [f"{what} of {server}: {end}" for (server, _, what), end in ends.items() if end in ("lost", "open")]
        self.checks.check(
            f"each of {len(ends)} accepted requests has its end",
            (lost and "; ".join(lost)) or (not ends and "there are none"))
        self.judge(ends)
        wrong = ground.holds()
        self.checks.check("nothing is left when all servers are deleted", wrong)

    def guarded(self, body, number):
        try:
            body(random.Random(f"{self.seed}-{number}"))
        except Exception as error:  # noqa: BLE001 (every one is a finding)
            with self.lock:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.over.set()

    def left(self, servers):
        """The servers as they are when nothing is under way any more."""

    def taken(self, images):
        """The snapshots that are there in the end."""

    def judge(self, ends):
        """What became of each request that was accepted."""

    def ends(self):
        """What became of each accepted request: `lost` (not on record), `open`, `done`, or `failed: ` and why."""
        client = self.ground.control.client()
        # Later than this an action says when it was last changed.
        client.version = "compute 2.84"
        found = {}
        for server, request, what in self.accepted:
            try:
                action = client.compute("GET", f"/servers/{server}/os-instance-actions/{request}")["instanceAction"]
            except Refused as refused:
                if refused.status != 404:
                    raise
                found[server, request, what] = "lost"
                continue
            events = action["events"]
            has_ended = action["updated_at"] != action["start_time"] or any(event["finish_time"] for event in events)
            why = [event["details"] for event in events if event["result"] == "Error"]
            if why or action["message"]:
                found[server, request, what] = f"failed: {why or action['message']}"
            else:
                found[server, request, what] = "done" if has_ended else "open"
        return found

    def ask(self, request, *arguments, accepted=None):
        """The request's answer; None when it did not get through or was refused. What was accepted is told."""
        with self.lock:
            self.requests += 1
        try:
            answer = request(*arguments)
            if accepted:
                accepted(answer)
            return answer
        except LOST as error:
            if isinstance(error, Refused) and error.status not in (403, 404, 409, 500, 502, 503, 504):
                raise
            return None

    def keep(self, client, server, what):
        """Notes the client's last request as accepted."""
        with self.lock:
            self.accepted.append((server, client.request_id, what))

    def work(self, chance):
        client = self.ground.control.client()
        number = 0
        while not self.over.is_set():
            number += 1
            server = self.ask(
                client.create, f"soak-{chance.random():.6f}-{number}", self.ground.image, self.ground.flavor["id"],
                accepted=lambda made: self.keep(client, made, "create"))
            if server is None:
                self.over.wait(0.1)
                continue
            for _ in range(chance.randint(0, MOST_ACTIONS)):
                # Now and then the next request does not wait for the last one's end.
                status = self.status(client, server) if chance.random() < 0.8 else "ACTIVE"
                if status not in self.actions or self.over.is_set():
                    break
                name, argument = chance.choice(self.actions[status])
                if name == SNAPSHOT:
                    argument = {"name": PREFIX + server}
                    with self.lock:
                        self.asked += 1
                self.ask(client.act, server, name, argument, accepted=lambda _, what=name: self.keep(client, server, what))
            self.remove(client, server)

    @staticmethod
    def snapshots(client):
        """Those of this run, of all servers."""
        images = client.image("GET", "/images?limit=1000")["images"]
        return [image for image in images if image["name"].startswith(PREFIX)]

    def remove(self, client, server):
        """Deletes the server, however often that takes."""
        while not self.over.is_set():
            self.ask(client.act, server, "forceDelete", None, accepted=lambda _: self.keep(client, server, "forceDelete"))
            try:
                found = client.find(server)
                if found is None or found["OS-EXT-STS:task_state"] == "deleting":
                    return
            except LOST:
                pass
            self.over.wait(0.1)

    def status(self, client, server):
        """The server's status once nothing is under way; None when that takes too long, or the end is near."""
        until = time.monotonic() + 60
        while time.monotonic() < until and not self.over.is_set():
            found = self.ask(client.find, server)
            if found and found["OS-EXT-STS:task_state"] is None and found["status"] != "BUILD":
                return found["status"]
            self.over.wait(0.1)
        return None

    def kill(self, chance):
        ground = self.ground
        conductor = ground.control.daemons[0]
        kinds = {"agent": (ground.agent,), "conductor": (conductor,), "both": (ground.agent, conductor)}
        self.deeds = dict.fromkeys(kinds, 0)
        bag = Bag(chance, kinds)
        while not self.over.wait(chance.uniform(*KILL_SECONDS)):
            kind = bag.draw()
            victims = kinds[kind]
            for victim in victims:
                victim.kill()
            self.kills += 1
            self.deeds[kind] += 1
            if conductor in victims:
                conductor.start(ready="conductor listens")
            if ground.agent in victims:
                ground.agent.start(ready="serving")
            if bag.rounds:
                self.varied.set()
        wait_for(
            lambda: any(h["state"] == "up" for h in ground.control.client().hypervisors()), 60, "a host that is up")
