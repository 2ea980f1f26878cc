"""What the parts of the system test share: one running system, and how a refusal is checked."""

import time

from apus_client import Refused
from apus_host import wait_for

SETTLE_SECONDS = 60
USED = ("vcpus_used", "memory_mb_used", "local_gb_used")


class Rig:
    def __init__(self, apus, checks):
        self.apus, self.checks = apus, checks
        self.client = apus.client()
        # A token of this moment; it has ended by the time the last part runs.
        self.old_token = self.client.authenticate()
        self.old_since = time.monotonic()
        self.flavor = self.client.flavor("m1.micro")
        self.image = apus.upload_test_image()
        self.foreign = {}
        self.before = self.held()

    def reconnect(self):
        """After a restart."""
        self.client = self.apus.client()

    def held(self):
        """Everything that the host holds for instances, and what is unfinished."""
        host = self.client.hypervisors()[0]
        return {
            "servers": sorted((s["name"], s["status"]) for s in self.client.servers()),
            "domains": {k: v for k, v in self.apus.domains().items() if k not in self.foreign},
            "folders": self.apus.folders(),
            "addresses": {mac for mac, (_, owner) in self.apus.address_owners().items() if owner},
            "used": {key: host[key] for key in USED},
            "unfinished files": self.apus.unfinished_files(),
            "unfinished tasks": [(t["kind"], t["status"], t["step"]) for t in self.client.apus("GET", "/tasks")["tasks"]],
        }

    def nothing_left(self, what):
        """Everything is as at the beginning, at the latest after the settling time."""
        def difference():
            now = self.held()
            return {k: (now[k], self.before[k]) for k in now if now[k] != self.before[k]}

        try:
            wait_for(lambda: not difference(), SETTLE_SECONDS, "nothing to be left", pause=0.2)
            self.checks.check(f"{what}: nothing is left behind")
        except TimeoutError:
            self.checks.check(f"{what}: nothing is left behind", f"(now, before): {difference()}")

    def refused(self, name, status, words, method, path, data=None, headers=None, token=True):
        """One raw request is answered `status` and a sentence that contains each of `words`."""
        got, _, body = self.client.raw(method, path, data, headers, token)
        message = Refused(got, body).message
        missing = [word for word in words if word.lower() not in message.lower()]
        problem = None
        if got != status:
            problem = f"{got} instead of {status}: {message[:300]}"
        elif not message or missing:
            problem = f"'{message}' does not say {missing}"
        self.checks.check(f"{name}: {status}", problem)

    def settle(self, identifier):
        """The server, once nothing is under way on it."""
        def settled():
            server = self.client.find(identifier)
            if server is None:
                return {"status": "gone"}
            busy = server["OS-EXT-STS:task_state"] is not None or server["status"] == "BUILD"
            return False if busy else server

        return wait_for(settled, SETTLE_SECONDS, f"server {identifier} to settle", pause=0.1)

    def fails(self, what, words, image=None, flavor=None, name="doomed"):
        """A launch ends in ERROR with a fault that contains each of `words`; then nothing of it is left."""
        identifier = self.client.create(name, image or self.image, flavor or self.flavor["id"])
        server = self.settle(identifier)
        fault = server.get("fault", {}).get("message", "")
        missing = [word for word in words if word.lower() not in fault.lower()]
        problem = None
        if server["status"] != "ERROR":
            problem = f"it is {server['status']}"
        elif not fault or missing:
            problem = f"its fault '{fault}' does not say {missing}"
        self.checks.check(f"{what}: ERROR, and why", problem)
        self.remove(identifier)
        self.nothing_left(what)

    def launch(self, name):
        """A server that must become ACTIVE."""
        server = self.settle(self.client.create(name, self.image, self.flavor["id"]))
        if server["status"] != "ACTIVE":
            raise RuntimeError(f"server {name} is {server['status']}: {server.get('fault')}")
        return server

    def remove(self, identifier):
        self.client.compute("DELETE", f"/servers/{identifier}")
        wait_for(lambda: self.client.find(identifier) is None, SETTLE_SECONDS, "the server's end", pause=0.1)
