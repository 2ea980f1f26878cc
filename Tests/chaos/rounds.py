"""The rounds: a request, a kill at a seeded moment, a restart; then everything must be as the API says."""

import http.client
import os
import random
import shutil
import threading
import time

from apus_client import Refused
from apus_host import OVERHEAD_MIB, test_image, wait_for

# From the request to the kill: most of them while a launch is under way, the others up to a little beyond.
USUAL_KILL_SECONDS, LATEST_KILL_SECONDS = 0.5, 1.5
SETTLE_SECONDS = 60
MOST_SERVERS = 4
# As many addresses as the agent keeps reserved ahead.
SPARES = 32
USED = ("vcpus_used", "memory_mb_used", "local_gb_used")
LOST = (http.client.HTTPException, OSError, Refused)


class Chaos:
    """`apus` is a system under test (systems.py)."""

    def __init__(self, apus, seed, rounds, checks):
        self.apus, self.checks, self.rounds = apus, checks, rounds
        self.random = random.Random(seed)
        self.images = 0
        self.wanted = {}
        # What another installation on this host keeps is not ours.
        self.foreign = set(apus.reservations())
        apus.start()
        self.client = apus.client()
        self.flavor = self.client.flavor("m1.micro")
        wait_for(lambda: any(h["state"] == "up" for h in self.client.hypervisors()), SETTLE_SECONDS, "a host that is up")
        self.before = self.totals()
        self.image = self.new_image()

    def totals(self):
        host = self.client.hypervisors()[0]
        return {key: host[key] for key in USED}

    def new_image(self):
        """An image that the host has not seen: the same guest behind other bytes."""
        self.images += 1
        path = os.path.join(self.apus.scratch, "variant.qcow2")
        shutil.copyfile(test_image(), path)
        # What lies behind the last cluster belongs to nobody.
        with open(path, "ab") as file:
            file.write(self.images.to_bytes(8, "big") * 8192)
        identifier = self.client.make_image(f"guest-{self.images}", path)
        os.unlink(path)
        return identifier

    # One round.

    def interrupted(self, request):
        """Sends a request, kills at a seeded moment after its begin, and starts again what was killed.

        Returns what the request returned, or None when the kill was earlier than the answer, and what was done.
        """
        moment = self.random.uniform(0, USUAL_KILL_SECONDS if self.random.random() < 0.7 else LATEST_KILL_SECONDS)
        victims = self.apus.victims(self.random)
        killer = threading.Timer(moment, self.apus.kill, [victims])
        answer = None
        killer.start()
        try:
            answer = request()
        except LOST:
            killer.join()
        killer.join()
        began = time.monotonic()
        self.apus.start(limit=SETTLE_SECONDS)
        self.client = self.apus.client()
        return answer, f"{self.apus.named(victims)}killed after {moment * 1000:.0f} ms, back in {time.monotonic() - began:.1f} s"

    def create(self, number):
        name = f"round-{number}"
        if self.random.random() < 0.3:
            self.image = self.new_image()
        answer, how = self.interrupted(lambda: self.client.create(name, self.image, self.flavor["id"]))
        found = [server["id"] for server in self.client.servers() if server["name"] == name]
        what = f"{number}: a launch {how}"
        if answer and found != [answer]:
            self.checks.check(f"{what}: what was accepted is there", f"{answer} was accepted, {found} is there")
            return
        if len(found) > 1:
            self.checks.check(f"{what}: there is one server", found)
            return
        self.settle(what, found[0] if found else None, ("ACTIVE", "ERROR"))

    def delete(self, number):
        identifier = self.random.choice(sorted(self.wanted))
        _, how = self.interrupted(lambda: self.client.compute("DELETE", f"/servers/{identifier}"))
        # A kill before the request was accepted leaves the server as it was.
        self.settle(f"{number}: a deletion {how}", identifier, ("gone", "ERROR", "ACTIVE"))

    def upload(self, number):
        """The kill comes during the upload of an image; its bytes are then whole or not there."""
        fields = {"name": f"upload-{number}", "disk_format": "qcow2", "container_format": "bare"}
        identifier = self.client.image("POST", "/images", fields)["id"]
        _, how = self.interrupted(lambda: self.client.upload(identifier, test_image()))
        status = self.client.image("GET", f"/images/{identifier}")["status"]
        what = f"{number}: an upload {how}"
        self.checks.check(f"{what}: it is {status}", status not in ("active", "queued", "killed") and "in between")
        self.client.image("DELETE", f"/images/{identifier}")
        self.leaks(what)

    def settle(self, what, identifier, allowed):
        def settled():
            server = self.client.find(identifier)
            if server is None:
                return {"status": "gone"}
            busy = server["OS-EXT-STS:task_state"] is not None
            return False if busy or server["status"] not in ("ACTIVE", "ERROR") else server

        if identifier is None:
            self.checks.check(f"{what}: it was not accepted")
            self.leaks(what)
            return
        try:
            server = wait_for(settled, SETTLE_SECONDS, "nothing to be under way", pause=0.1)
        except TimeoutError as error:
            shown = self.client.find(identifier)
            tasks = self.client.apus("GET", f"/tasks?instance={identifier}")
            self.checks.check(f"{what}: it settles", f"{error}; {shown}; {tasks}\n{self.apus.tail()}")
            return
        status = server["status"]
        problem = None if status in allowed else "not what it may be"
        if status == "ERROR" and not server.get("fault", {}).get("message"):
            problem = "it has no reason"
        reason = f" ({server['fault']['message']})" if status == "ERROR" and not problem else ""
        self.checks.check(f"{what}: it is {status}{reason}", problem)
        if status == "ERROR":
            self.remove(identifier)
        elif status == "gone":
            self.wanted.pop(identifier, None)
        else:
            self.wanted[identifier] = server
        self.leaks(what)

    def remove(self, identifier):
        self.client.compute("DELETE", f"/servers/{identifier}")
        try:
            wait_for(lambda: self.client.find(identifier) is None, SETTLE_SECONDS, "the server's end", pause=0.1)
            self.wanted.pop(identifier, None)
        except TimeoutError as error:
            self.checks.check(f"{identifier} can be deleted", f"{error}: {self.client.find(identifier)}")

    # What must hold.

    def leaks(self, what):
        try:
            wait_for(lambda: self.wrong() is None, SETTLE_SECONDS, "nothing to leak", pause=0.2)
            self.checks.check(f"{what}: nothing leaks")
        except TimeoutError:
            self.checks.check(f"{what}: nothing leaks", self.wrong() or "only after a minute")

    def wrong(self):
        """What the host holds and should not, or should and does not; None when all is right."""
        servers = self.client.servers()
        active = {server["id"]: server for server in servers if server["status"] == "ACTIVE"}
        domains = self.apus.domains()
        if set(active) != set(self.wanted):
            return f"servers {sorted(active)}, expected {sorted(self.wanted)}"
        if domains != dict.fromkeys(active, "running"):
            return f"domains {domains}, servers {[(s['id'], s['status']) for s in servers]}"
        if self.apus.folders() != set(active):
            return f"folders {sorted(self.apus.folders())}, servers {sorted(active)}"
        addresses = {
            entry["OS-EXT-IPS-MAC:mac_addr"]: entry["addr"]
            for server in active.values() for entries in server["addresses"].values() for entry in entries
        }
        if len(addresses) != len(active):
            return f"addresses {addresses} of {len(active)} servers"
        known = self.apus.address_owners()
        reserved = {mac: ip for mac, ip in self.apus.reservations().items() if mac not in self.foreign}
        # One that was made a moment before a kill may be on no record; the agent takes it for a spare.
        if not {mac: address for mac, (address, _) in known.items()}.items() <= reserved.items():
            return f"reservations {reserved}, on record {known}"
        if {mac: address for mac, (address, owner) in known.items() if owner} != addresses:
            return f"addresses {addresses}, on record {known}"
        if len(reserved) - len(addresses) > 2 * SPARES:
            return f"{len(reserved) - len(addresses)} spare addresses: {reserved}"
        used = self.totals()
        for key, each in zip(USED, (self.flavor["vcpus"], self.flavor["ram"] + OVERHEAD_MIB, self.flavor["disk"])):
            if used[key] != self.before[key] + each * len(active):
                return f"{key}: {used[key]} with {len(active)} servers, {self.before[key]} with none"
        tasks = self.client.apus("GET", "/tasks")["tasks"]
        if tasks:
            return f"unfinished tasks {[(t['kind'], t['status'], t['step'], t['last_error']) for t in tasks]}"
        left = self.apus.unfinished_files()
        return f"unfinished files {left}" if left else None

    def run(self):
        for number in range(1, self.rounds + 1):
            kinds = [self.create] * 3 * (len(self.wanted) < MOST_SERVERS) + [self.delete] * 2 * bool(self.wanted)
            # The first round meets a host without the image; each kind comes at least once.
            kind = {1: self.create, 2: self.upload}.get(number) or self.random.choice(kinds + [self.upload] * (number > 9))
            with self.checks.guard(f"{self.apus.name}, round {number}"):
                kind(number)
        for identifier in sorted(self.wanted):
            self.remove(identifier)
        self.leaks(f"{self.apus.name}, at the end")
        self.checks.check(
            f"{self.apus.name}: the host has what it had before", self.totals() != self.before and f"{self.totals()}, {self.before}")
        code = self.apus.stop()
        self.checks.check(f"{self.apus.name} ends on SIGTERM", code and f"exit code {code}")
