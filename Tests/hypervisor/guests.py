"""Servers as their guests and their host see them, each through a client of its own, so that many act at once."""

import base64
import hashlib
import os
import re
import subprocess
import threading
import time

from apus_client import Refused
from apus_host import Checks, virsh, wait_for

SETTLE_SECONDS = 120
BOOT_SECONDS = 90


class SharedChecks(Checks):
    """Checks of several threads."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def check(self, name, problem=None):
        with self.lock:
            return super().check(name, problem)


class Guest:
    """One server, whose image has a guest that counts its boots."""

    def __init__(self, ground, name, image, user_data="", **fields):
        self.ground, self.name = ground, name
        self.client = ground.control.client()
        body = {"name": name, "imageRef": image, "flavorRef": ground.flavor["id"], "networks": "auto", **fields}
        if user_data:
            body["user_data"] = base64.b64encode(user_data.encode()).decode()
        self.id = self.client.compute("POST", "/servers", {"server": body})["server"]["id"]

    def ready(self, status="ACTIVE"):
        """Waits for the end of its launch, and for its first tick."""
        self.settle(status)
        self.until(r"^tick ", BOOT_SECONDS)
        return self

    # What the API says.

    def shown(self):
        return self.client.find(self.id) or {"status": "gone", "OS-EXT-STS:task_state": None}

    def settled(self, seconds=SETTLE_SECONDS):
        """The server, once nothing is under way on it."""
        def probe():
            server = self.shown()
            if server["OS-EXT-STS:task_state"] is not None or server["status"] == "BUILD":
                return None
            return None if self.client.tasks(self.id) else server

        try:
            return wait_for(probe, seconds, "nothing to be under way")
        except TimeoutError as error:
            server = self.shown()
            state = {key: server.get(key) for key in ("status", "OS-EXT-STS:task_state")}
            raise TimeoutError(f"{error} on {self.name}: {state}; {self.client.tasks(self.id)}") from None

    def settle(self, status, seconds=SETTLE_SECONDS):
        server = self.settled(seconds)
        if server["status"] != status:
            raise RuntimeError(
                f"{self.name} is {server['status']} and not {status}: {server.get('fault')} {self.failure()}")
        return server

    def act(self, action, argument=None, brings=None):
        """One action; with `brings`, waits until the server has settled in that status."""
        answer = self.client.act(self.id, action, argument)
        if brings:
            self.settle(brings)
        return answer

    def failure(self):
        """Why the last task failed; "" when it did not."""
        tasks = self.client.apus("GET", f"/tasks?all=1&instance={self.id}")["tasks"]
        last = max(tasks, key=lambda task: task["created_at"], default=None)
        return (last and last["status"] != "succeeded" and (last["last_error"] or {}).get("message")) or ""

    def images(self, name):
        return [image for image in self.client.image("GET", "/images")["images"] if image["name"] == name]

    def awaits(self, states, seconds=SETTLE_SECONDS):
        """Waits until one of these task states is there; False when the server settles without."""
        def probe():
            server = self.shown()
            if server["OS-EXT-STS:task_state"] in states:
                return "there"
            return None if server["OS-EXT-STS:task_state"] or self.client.tasks(self.id) else "over"

        return wait_for(probe, seconds, f"{self.name} to be {states}", pause=0.002) == "there"

    def remove(self):
        try:
            self.client.act(self.id, "forceDelete", None)
        except Refused as refused:
            if refused.status != 404:
                raise
        wait_for(lambda: self.shown()["status"] == "gone", SETTLE_SECONDS, f"the end of {self.name}")

    # What the guest says.

    def console(self):
        return self.client.act(self.id, "os-getConsoleOutput", {})["output"]

    def until(self, pattern, seconds=SETTLE_SECONDS):
        """The first match of `pattern` on the console, waited for."""
        before = None

        def look():
            nonlocal before
            text = self.console()
            found = re.search(pattern, text, re.MULTILINE)
            if found is None:
                return None
            # What ends where the console does may be half a line: it counts once it has not grown for a moment.
            if found.end() < len(text) or found[0] == before:
                return found
            before = found[0]
            return None

        try:
            return wait_for(look, seconds, f"'{pattern}' of {self.name}", pause=0.5)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its console: {self.console()[-600:]!r}") from None

    def tick(self):
        """The number of the last tick since the boot; 0 before the first."""
        return max(map(int, re.findall(r"^tick (\d+)", self.console(), re.MULTILINE)), default=0)

    def goes_on(self, since, seconds=30):
        """Falsy once the guest has ticked past `since` without a boot; else what is wrong."""
        try:
            wait_for(lambda: self.tick() > since, seconds, f"a tick after {since}", pause=0.2)
        except TimeoutError as error:
            return f"{error}; {virsh('domstate', '--reason', self.id).strip()}"
        return None

    def boots(self, device="vda"):
        """How often the guest was booted from this disk, once it has told so and ticks."""
        self.until(r"^tick ", BOOT_SECONDS)
        found = re.search(rf"device {device} .* boots (\d+)", self.console())
        return int(found[1]) if found else None

    def boot_id(self):
        return self.until(r"boot id (\S+)", BOOT_SECONDS)[1]

    # What the host says.

    def domain(self):
        """libvirt's state of the domain, or None without one."""
        done = subprocess.run(
            ["virsh", "-q", "-c", "qemu:///system", "domstate", self.id], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def connected(self):
        """Waits until the guest's agent has opened its port."""
        wait_for(lambda: re.search("name='org.qemu.guest_agent.0' state='connected'", virsh("dumpxml", self.id)),
                 BOOT_SECONDS, f"the agent of {self.name}", pause=0.2)

    def copies(self):
        """The files of copies of its disk."""
        folder = os.path.join(self.ground.instances, "snapshots")
        return [name for name in os.listdir(folder) if name.startswith(self.id)] if os.path.isdir(folder) else []


def differs(found, wanted):
    """None when they are equal, else the sentence."""
    return None if found == wanted else f"{found!r} instead of {wanted!r}"


def digest(data):
    return hashlib.md5(data).hexdigest()


def told(reason, *words):
    """None when a reason has each of the words."""
    missing = [word for word in words if word.lower() not in reason.lower()]
    return f"'{reason}' does not say {missing}" if missing or not reason else None


class Stopwatch:
    def __init__(self):
        self.began = time.monotonic()

    @property
    def seconds(self):
        return time.monotonic() - self.began
