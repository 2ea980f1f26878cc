"""What goes wrong while a guest is carried to another host: processes that end at each step and at each moment, a cable that
is pulled, a deletion, a full disk. Afterwards there is one guest, or none and a reason; never two, and nothing is left."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(TESTS, "chaos"))

from apus_host import revive, wait_for  # noqa: E402
from full_disk import filled, small_disk  # noqa: E402
from live import Watch  # noqa: E402
from matrix import points  # noqa: E402

# Which host's agent does each part of it.
ROLES = {"guest.offer": "source", "guest.receive": "destination", "guest.send": "source", "guest.arrive": "destination",
         "guest.leave": "source"}
DEATH_SECONDS = 120
LATE_SECONDS = 10
# A guest is carried for some seconds: its memory that is in use is about 60 MiB.
MEGABITS = 100
VICTIMS = ("source's agent", "destination's agent", "source's libvirtd", "destination's libvirtd", "conductor", "cable")
# Asked for; libvirt carries the memory; the guest is halted to go on elsewhere; it runs on the destination.
MOMENTS = ("begun", "carried", "switched", "arrived")
STEPS_IN_CI, DISTURBANCES_IN_CI = 2, 3


def kill_libvirtd(host):
    """SIGKILLs a lab host's; returns when it is gone."""
    with open(f"{host['home']}/run/libvirtd.pid", encoding="ascii") as file:
        pid = int(file.read())
    os.kill(pid, 9)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}/root/"), 10, "libvirtd's end")


class Faults:
    def __init__(self, live, randomness, full, wanted=None):
        self.live, self.checks, self.random = live, live.checks, randomness
        # All of them, or those with a text in their name; else a share.
        self.full, self.wanted = full or wanted is not None, wanted or ""
        self.number = 0

    def run(self):
        """All of them where the hosts share their disks and where they do not; a share of one of both in CI."""
        for is_shared in (False, True) if self.full else [False]:
            if is_shared:
                with self.sharing():
                    self.rounds(" on shared disks")
            else:
                self.rounds("")

    @contextlib.contextmanager
    def sharing(self):
        self.live.share(True)
        try:
            yield
        finally:
            self.live.share(False)

    def rounds(self, where):
        steps = list(points(self.lists))
        disturbances = [(victim, moment) for victim in VICTIMS for moment in MOMENTS]
        disturbances += [("deletion", moment) for moment in MOMENTS[:3]]
        if not where:
            disturbances.append(("full disk", "carried"))
        if not self.full:
            # One that is surely reached, and one of any kind.
            sure = [point for point in steps if point.phase in ("before", "after")]
            steps = [self.random.choice(sure), *self.random.sample(steps, STEPS_IN_CI - 1)] if steps else []
            disturbances = self.random.sample(disturbances, DISTURBANCES_IN_CI)
        rounds = [(f"{ROLES[point.kind]}, {point}{where}", self.step, point) for point in steps]
        rounds += [(f"{victim}, {moment}{where}", self.disturb, victim, moment) for victim, moment in disturbances]
        for what, *call in rounds:
            if self.wanted in what:
                self.round(what, *call)

    @functools.cached_property
    def lists(self):
        """{kind: [step]} of the operations that are parts of a live migration, as the agent tells them."""
        agent = self.live.cloud.agents["host1"]
        said = subprocess.run([agent.path, "--list-steps"], check=True, capture_output=True, text=True).stdout
        lists = {row["kind"]: row["steps"] for row in map(json.loads, said.splitlines()) if row["kind"] in ROLES}
        missing = sorted(set(ROLES) - set(lists))
        self.checks.check("the agent has all parts of a live migration", missing and f"it lacks {missing}")
        return lists

    def round(self, what, body, *arguments):
        self.number += 1
        self.what = f"{self.number}: {what}"
        began = time.monotonic()
        # Either way; the control plane is on the first host.
        self.source, self.destination = self.random.sample(self.live.names, 2)
        with self.checks.guard(self.what):
            body(*arguments)
        with self.checks.guard(f"{self.what}: the end"):
            self.mend()
            self.live.clear()
        print(f"{self.what}: {self.source} to {self.destination}, {time.monotonic() - began:.0f} s", flush=True)

    def mend(self):
        """Everything runs again."""
        live = self.live
        for host in live.names:
            live.slow(host, 0)
            revive(host)
        for agent in live.cloud.agents.values():
            if agent.process is None or agent.process.poll() is not None:
                agent.start(ready="serving")
        live.cloud.wait_for_states(**{name: "up" for name in live.names})

    # Agents that die at a step, and steps that fail.

    def step(self, point):
        role = {"source": self.source, "destination": self.destination}[ROLES[point.kind]]
        agent = self.live.cloud.agents[role]
        size = os.path.getsize(agent.log)
        guest = self.live.launch(f"round-{self.number}", self.source)
        self.live.settings(environment={role: point.environment}, hosts=[role])
        with Watch(self.live, guest) as watch:
            self.live.ask(guest, self.destination)
            if point.phase == "fails":
                self.live.settled(guest)
                with open(agent.log, "rb") as log:
                    log.seek(size)
                    reached = b"failed because a test asked for it" in log.read()
                agent.stop()
            else:
                reached = self.dies(agent, guest)
            # From now on without faults.
            self.live.settings(hosts=[role])
            self.judge(guest, watch)
        # What cannot be undone any more is not.
        if point.phase != "undo":
            self.checks.check(f"{self.what}: it did", not reached and "it did not")

    def dies(self, agent, guest):
        """Whether the agent ended by itself before all was over."""
        limit = time.monotonic() + DEATH_SECONDS
        while time.monotonic() < limit:
            if agent.dies(0.1):
                return True
            server = guest.server()
            if server["OS-EXT-STS:task_state"] is None and not self.live.client.tasks(guest.id):
                # What the source clears up comes after that.
                return agent.dies(LATE_SECONDS)
        return False

    # What dies, or goes, at a moment.

    def disturb(self, victim, moment):
        if victim == "full disk":
            # This program sees the file systems of the first host.
            self.source, self.destination = "host2", "host1"
            with small_disk(self.live, self.destination):
                self.disturbed(victim, moment)
                self.live.clear()
        else:
            self.disturbed(victim, moment)

    def disturbed(self, victim, moment):
        wishes = ("look=1",) if victim == "full disk" else ()
        guest = self.live.launch(f"round-{self.number}", self.source, wishes=wishes)
        self.live.slow(self.source, MEGABITS)
        with Watch(self.live, guest) as watch, contextlib.ExitStack() as stack:
            self.live.ask(guest, self.destination)
            if not self.reaches(guest, moment):
                print(f"{self.what}: over before its moment came", flush=True)
            self.strike(victim, guest, stack)
            self.judge(guest, watch, is_deleted=victim == "deletion")

    def reaches(self, guest, moment):
        """Waits for the moment; whether it came before all was over."""
        live, source, destination = self.live, self.source, self.destination
        probe = {
            "begun": lambda: True,
            "carried": lambda: live.is_carrying(source, guest.id),
            "switched": lambda: live.state(source, guest.id) != "running",
            "arrived": lambda: live.is_running(destination, guest.id),
        }[moment]
        limit = time.monotonic() + 120
        while not probe():
            if time.monotonic() > limit or guest.server()["OS-EXT-STS:task_state"] is None:
                return False
        return True

    def strike(self, victim, guest, stack):
        live = self.live
        host = self.source if victim.startswith("source") else self.destination
        if victim.endswith("agent"):
            live.cloud.agents[host].kill()
            live.cloud.agents[host].start(ready="serving")
        elif victim.endswith("libvirtd"):
            kill_libvirtd(self.live.lab[host])
            revive(host)
        elif victim == "conductor":
            conductor = live.cloud.control.daemons[0]
            conductor.kill()
            conductor.start(ready="conductor listens")
        elif victim == "cable":
            live.cloud.wire("host2", "down")
            try:
                wait_for(lambda: live.cloud.states().get("host2") == "down", 60, "the host to be missed", pause=0.2)
            finally:
                live.cloud.wire("host2", "up")
            live.cloud.wait_for_states(host2="up")
        elif victim == "deletion":
            live.cloud.remove(guest.id)
        else:
            stack.enter_context(filled(live.hosts.folder(host)))
            live.settled(guest)

    # What must hold.

    def judge(self, guest, watch, is_deleted=False):
        """One guest where the record says, the one that was started; or none, and a reason."""
        server = self.live.settled(guest, 300)
        if server is None:
            self.checks.check(f"{self.what}: only a deletion removes it", not is_deleted and "it is gone")
            wait_for(lambda: not self.live.emulators(guest.id), 30, "the guest's end", pause=0.1)
        elif server["status"] == "ERROR":
            fault = server.get("fault", {}).get("message")
            self.checks.check(f"{self.what}: an ERROR has a reason ({fault})", not fault and "it has none")
            count = len(self.live.emulators(guest.id))
            self.checks.check(f"{self.what}: there is one guest at most", count > 1 and f"{count}")
        else:
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: len(self.live.emulators(guest.id)) == 1, 60, "one guest", pause=0.2)
            self.live.one(guest, server["OS-EXT-SRV-ATTR:host"], "ACTIVE", self.what)
        self.checks.check(f"{self.what}: the guest never runs twice", watch.doubles and f"{watch.doubles}")
