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


# With it, snapshots are taken as well; each bears its server's name.
SNAPSHOT = "createImage"
PREFIX = "soak-"


class Soak:
    """`ground` is a cloud with one host (ground.py)."""

    actions = ACTIONS

    def __init__(self, ground, checks, seed, seconds):
        self.ground, self.checks, self.seed, self.seconds = ground, checks, seed, seconds
        self.over = threading.Event()
        self.requests = self.kills = self.asked = 0
        self.errors = []
        self.lock = threading.Lock()

    def run(self):
        workers = [threading.Thread(target=self.guarded, args=(self.work, n), daemon=True) for n in range(WORKERS)]
        killer = threading.Thread(target=self.guarded, args=(self.kill, WORKERS), daemon=True)
        for thread in (*workers, killer):
            thread.start()
        self.over.wait(self.seconds)
        self.over.set()
        for thread in (killer, *workers):
            thread.join(SETTLE_SECONDS)
        self.checks.check("requests and kills went on to the end", self.errors)
        ground = self.ground
        ground.client = ground.control.client()
        for server in ground.client.servers():
            ground.settled(server["id"], SETTLE_SECONDS)
        wrong = ground.holds()
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
            for image in images:
                ground.client.image("DELETE", f"/images/{image['id']}")
        wrong = ground.holds()
        self.checks.check("nothing is left when all servers are deleted", wrong)

    def guarded(self, body, number):
        try:
            body(random.Random(f"{self.seed}-{number}"))
        except Exception as error:  # noqa: BLE001 (every one is a finding)
            with self.lock:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.over.set()

    def ask(self, request, *arguments):
        """The request's answer; None when it did not get through or was refused."""
        with self.lock:
            self.requests += 1
        try:
            return request(*arguments)
        except LOST as error:
            if isinstance(error, Refused) and error.status not in (403, 404, 409, 500, 502, 503, 504):
                raise
            return None

    def work(self, chance):
        client = self.ground.control.client()
        number = 0
        while not self.over.is_set():
            number += 1
            server = self.ask(
                client.create, f"soak-{chance.random():.6f}-{number}", self.ground.image, self.ground.flavor["id"])
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
                self.ask(client.act, server, name, argument)
            self.remove(client, server)

    @staticmethod
    def snapshots(client):
        """Those of this run, of all servers."""
        images = client.image("GET", "/images?limit=1000")["images"]
        return [image for image in images if image["name"].startswith(PREFIX)]

    def remove(self, client, server):
        """Deletes the server, however often that takes."""
        while not self.over.is_set():
            self.ask(client.act, server, "forceDelete", None)
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
        while not self.over.wait(chance.uniform(*KILL_SECONDS)):
            victims = chance.choice(((ground.agent,), (conductor,), (ground.agent, conductor)))
            for victim in victims:
                victim.kill()
            self.kills += 1
            if conductor in victims:
                conductor.start(ready="conductor listens")
            if ground.agent in victims:
                ground.agent.start(ready="serving")
        wait_for(
            lambda: any(h["state"] == "up" for h in ground.control.client().hypervisors()), 60, "a host that is up")
