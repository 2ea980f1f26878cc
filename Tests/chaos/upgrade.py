"""A cloud of the release before becomes one of this release, process by process, under a steady load."""

import os
import subprocess

from apus_host import ROOT, clean_environment, wait_for
from ground import QUICK, Ground
from soak import ACTIONS, PREFIX, SNAPSHOT, Soak

# The commit that is the release before, and where its programs are built.
PREVIOUS = "fd3476b"
FOLDER = os.path.join(ROOT, ".build", f"previous-{PREVIOUS}")
PROGRAMS = ("apus", "apus-api", "apus-compute", "apus-conductor", "apus-scheduler")
READY = {"apus-api": "api listens", "apus-conductor": "conductor listens", "apus-scheduler": "scheduler listens",
         "apus-compute": "serving"}
BETWEEN_SECONDS = 8
# How the record tells that a later request has taken the place of one.
OVERTAKEN = "failed: ['the task was cancelled']"


def previous():
    """The folder with the programs of the release before; built where they are not there yet."""
    given = os.environ.get("APUS_PREVIOUS_BINARIES")
    if given:
        return given
    built = os.path.join(FOLDER, ".build", "debug")
    if all(os.path.exists(os.path.join(built, name)) for name in PROGRAMS):
        return built
    if not os.path.exists(FOLDER):
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", ROOT, FOLDER], check=True)
        subprocess.run(["git", "-C", FOLDER, "checkout", "--quiet", "--detach", PREVIOUS], check=True)
    for name in PROGRAMS:
        subprocess.run(["swift", "build", "--package-path", FOLDER, "--product", name], check=True,
                       env=clean_environment())
    return built


class Upgrade(Soak):
    """The soak's requests, snapshots among them; nothing dies, but each process is replaced once."""

    actions = {**ACTIONS, "ACTIVE": [*ACTIONS["ACTIVE"], (SNAPSHOT, None)]}

    def __init__(self, ground, checks, seed, binaries):
        super().__init__(ground, checks, seed, seconds=0)
        self.binaries = binaries
        self.failed = []
        self.replaced = 0

    def daemons(self):
        """In the order in which they are replaced: agents last, which therefore work under newer conductors."""
        control = self.ground.control
        return [*control.conductors, control.daemons[1], *control.schedulers, control.daemons[2], self.ground.agent]

    def kill(self, _chance):
        self.varied.set()
        for daemon in self.daemons():
            if self.over.wait(BETWEEN_SECONDS):
                return
            program = os.path.basename(daemon.path)
            daemon.stop()
            daemon.path = os.path.join(self.binaries, program)
            daemon.start(ready=READY[program])
            self.replaced += 1
            print(f"# {os.path.basename(daemon.log)} is of this release", flush=True)
        self.over.wait(BETWEEN_SECONDS)
        self.over.set()

    def status(self, client, server):
        """As in the soak; but here a server that has an end in error, or none in the time, is a failure of the upgrade."""
        status = super().status(client, server)
        if status == "ERROR":
            self.fail(client, server)
        elif status is None and not self.over.is_set():
            self.note(f"{server}: something is still under way after a minute")
        return status

    def remove(self, client, server):
        """Only when it has come to rest: what a deletion overtakes, a snapshot among them, would have no end to judge."""
        self.status(client, server)
        super().remove(client, server)

    def fail(self, client, server):
        self.note(f"{server}: {(client.find(server) or {}).get('fault', {}).get('message')}")

    def note(self, failure):
        with self.lock:
            self.failed.append(failure)

    def left(self, servers):
        for server in servers:
            if server["status"] == "ERROR":
                self.fail(self.ground.client, server["id"])

    def taken(self, images):
        asked = [server for server, _, what in self.accepted if what == SNAPSHOT]
        self.checks.check(
            f"each of {len(asked)} accepted snapshots is there",
            (sorted(asked) != (there := sorted(image["name"].removeprefix(PREFIX) for image in images))
             and f"asked for of {sorted(asked)}, there are {there}") or (not asked and "none was accepted"))

    def judge(self, ends):
        # A hard reboot, or a deletion, takes the place of what is under way, and this is the end of that.
        overtaking = {(server, request) for server, request, what in ends if what in ("reboot", "forceDelete")}
        failed = [
            f"{what} of {server} has {end}" for (server, request, what), end in ends.items()
            if end.startswith("failed")
            and not (end == OVERTAKEN and any(of == server and other != request for of, other in overtaking))]
        self.checks.check(
            "no request that was accepted has failed, unless a later one took its place", failed and "; ".join(failed))

    def run(self):
        # The killer says when it is over.
        self.seconds = (len(self.daemons()) + 1) * BETWEEN_SECONDS + 120
        super().run()
        self.checks.check("every process is of this release", self.replaced != len(self.daemons()) and f"{self.replaced} are")
        self.checks.check("no server ended in error", self.failed and "; ".join(self.failed))
        tool = self.ground.control.tool
        tool.path = os.path.join(self.binaries, "apus")
        said = tool.run("db", "check")
        self.checks.check("no record contradicts another", said[0] and said[1])


def upgrade(binaries, checks, seed):
    old = previous()
    # Room for all, also while deletions wait for snapshots: a refusal would look like a failure of the upgrade.
    room = (*QUICK, "DEFAULT.cpu_allocation_ratio=32", "DEFAULT.ram_allocation_ratio=8")
    with Ground(old, agent_options=room, conductors=2, name="older") as ground:
        Upgrade(ground, checks, seed, binaries).run()
        wait_for(lambda: not ground.client.tasks(), 60, "the end of all tasks")
