"""The rounds that are made from the agent's step lists, and those that kill libvirtd and QEMU during each operation."""

import contextlib
import dataclasses
import functools
import os
import random
import subprocess
import time

from apus_client import Refused
from apus_host import virsh, wait_for
from ground import Request
from operations import OPERATIONS

DEATH_SECONDS = 30
# How often a round is tried whose victim was not there at the moment chosen.
VICTIM_TRIES = 3
FINISHED = "finished"
# A server in such a status has no QEMU.
WITHOUT_QEMU = ("SHUTOFF", "SUSPENDED", "SHELVED", "SHELVED_OFFLOADED", "SOFT_DELETED")
MOVES = frozenset(f"guest.{part}" for part in (
    "reserve", "set_aside", "take_over", "release", "forget", "take_back", "offer", "receive", "send", "arrive", "leave",
    "take_in", "discard"))


@dataclasses.dataclass(frozen=True)
class Point:
    """Where the agent dies (`before`, `after`, `undo`), or the step fails and it lives (`fails`)."""

    kind: str
    step: str
    phase: str
    # The step that fails, so that there is something to undo.
    failing: str = ""

    @property
    def environment(self):
        if self.phase == "fails":
            return {"APUS_FAIL": f"{self.kind}/{self.step}"}
        fault = {"APUS_FAULT": f"{self.kind}/{self.step}/{self.phase}"}
        return {**fault, "APUS_FAIL": f"{self.kind}/{self.failing}"} if self.failing else fault

    def __str__(self):
        kind = self.kind.removeprefix("guest.")
        return {
            "before": f"{kind}: the agent dies before {self.step}", "after": f"{kind}: the agent dies after {self.step}",
            "undo": f"{kind}: the agent dies undoing {self.step}", "fails": f"{kind}: {self.step} fails",
        }[self.phase]


def points(lists):
    """Every point of every operation."""
    for kind, steps in sorted(lists.items()):
        for step in (*steps, FINISHED):
            yield Point(kind, step, "before")
            yield Point(kind, step, "after")
        for step in steps:
            yield Point(kind, step, "undo", steps[-1])
            yield Point(kind, step, "fails")


def shared_order(chosen, randomness):
    """All of them in random order, but the first ones are of different kinds."""
    rest = sorted(chosen, key=str)
    randomness.shuffle(rest)
    seen, first = {}, []
    for point in rest:
        first.append((seen.setdefault(point.kind, 0), len(first), point))
        seen[point.kind] += 1
    return [point for _, _, point in sorted(first, key=lambda entry: entry[:2])]


class Matrix:
    def __init__(self, ground, checks, seed, full):
        self.ground, self.checks, self.full = ground, checks, full
        self.random = random.Random(seed)
        # Seconds that each operation takes when nothing dies.
        self.lengths = {}

    @functools.cached_property
    def lists(self):
        """The step lists of the operations that the table knows."""
        # Moves take two hosts: Tests/migration has agents die in them.
        lists = {kind: steps for kind, steps in self.ground.step_lists().items() if kind not in MOVES}
        missing = sorted(set(lists) - set(OPERATIONS))
        self.checks.check(
            "every operation's request is known", missing and f"Tests/chaos/operations.py has no entry for {missing}")
        return {kind: steps for kind, steps in lists.items() if kind in OPERATIONS}

    def undisturbed(self, kinds=()):
        """Each way to bring an operation about does what it should when nothing dies. Without that no other round says much."""
        for kind in sorted(self.lists):
            for operation in OPERATIONS[kind] if not kinds or kind in kinds else ():
                with self.round(f"{kind.removeprefix('guest.')}: nothing dies"):
                    begun = self.ground.begin(operation)
                    began = time.monotonic()
                    request = Request(self.ground, operation, begun)
                    found = self.ground.settled(request.server)
                    self.lengths[operation.name] = time.monotonic() - began
                    if request.answer():
                        raise request.error
                    self.judge(operation, found, whole=True)
                    self.leave(request.server)

    def leave(self, server):
        """The round's server can be deleted, and then nothing of it is there."""
        self.ground.remove(server)
        problem = self.ground.holds()
        if problem:
            raise Wrong(f"after the deletion: {problem}")

    def steps(self, seconds, kinds=()):
        """Rounds until the time is over; all of them when `full`. Each kind comes at least once."""
        chosen = [point for point in points(self.lists) if not kinds or point.kind in kinds]
        order = chosen if self.full else shared_order(chosen, self.random)
        limit = time.monotonic() + seconds
        done = 0
        for number, point in enumerate(order):
            if not self.full and number >= len(self.lists) and time.monotonic() > limit:
                break
            done += 1
            variants = OPERATIONS[point.kind]
            if not self.full and len(variants) > 1:
                variants = self.random.sample(variants, len(variants))
            with self.round(point):
                self.reach(point, variants)
        print(f"{done} of {len(chosen)} points of {len(self.lists)} operations", flush=True)

    def disturbances(self, seconds, kinds=()):
        """libvirtd, and then QEMU, is killed at a random moment of each operation; until the time is over, unless `full`."""
        rounds = [
            (operation, victim) for kind in self.lists for operation in OPERATIONS[kind] for victim in ("libvirtd", "QEMU")
            if not kinds or kind in kinds if victim == "libvirtd" or operation.needs not in WITHOUT_QEMU
        ] * (4 if self.full else 1)
        self.random.shuffle(rounds)
        limit = time.monotonic() + seconds
        done = 0
        for operation, victim in rounds:
            if not self.full and time.monotonic() > limit:
                break
            for _ in range(VICTIM_TRIES):
                if self.disturbed(operation, victim):
                    done += 1
                    break
        print(f"{done} of {len(rounds)} disturbances", flush=True)

    def disturbed(self, operation, victim):
        """One round; whether the victim was there when its moment came."""
        length = self.lengths.get(operation.name, 1)
        moment = self.random.uniform(0, min(length, 8))
        self.met = True
        with self.round(f"{operation.name}: {victim} dies {moment * 1000:.0f} ms of {length * 1000:.0f} ms after the request"):
            self.disturb(operation, victim, moment)
        return self.met

    @contextlib.contextmanager
    def round(self, what):
        """One line a round. What it leaves behind is taken away, so that the next one is judged by itself."""
        problem = None
        self.note, self.met = "", True
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
            problem = f"{error}" if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
        if self.met or problem:
            self.checks.check(f"{what}{self.note}", problem)
        if problem:
            self.clear()

    def clear(self):
        """After a failed round: an agent without faults, and no servers."""
        ground = self.ground
        for is_last in (False, False, True):
            ground.guardian.revive()
            try:
                ground.restart_agent()
                break
            except RuntimeError:
                # libvirtd may have ended since.
                if is_last:
                    raise
        for server in ground.client.servers():
            with contextlib.suppress(Exception):
                ground.remove(server["id"])
        left = ground.holds()
        if left:
            self.checks.check("what a failed round left can be taken away", left)

    # A round with a death at a point.

    def reach(self, point, variants):
        """Goes through the ways to bring the operation about until one reaches the point; in a full run through all."""
        reached = 0
        for operation in variants:
            if self.die(point, operation):
                reached += 1
                if not self.full:
                    return
        if not reached:
            raise Wrong("no request leads there")

    def die(self, point, operation):
        """Whether the agent reached the point; Wrong when what followed is not right."""
        ground = self.ground
        begun = ground.begin(operation)
        size = os.path.getsize(ground.agent.log)
        ground.restart_agent(**point.environment)
        request = Request(ground, operation, begun)
        if point.phase == "fails":
            found = ground.settled(request.server)
            with open(ground.agent.log, "rb") as log:
                log.seek(size)
                reached = b"failed because a test asked for it" in log.read()
            ground.restart_agent()
        else:
            reached = self.dies(request.server)
            if reached:
                ground.agent.start(ready="serving")
            else:
                ground.restart_agent()
            found = ground.settled(request.server)
        self.check_answer(request)
        if reached:
            # Once its last step is done, nothing but the operation's whole effect is right.
            steps = self.lists[point.kind]
            is_done = (point.step, point.phase) in ((FINISHED, "before"), (FINISHED, "after"), (steps[-1], "after"))
            self.judge(operation, found, failed=point.phase in ("fails", "undo"), whole=is_done)
        self.leave(request.server)
        return reached

    @staticmethod
    def check_answer(request):
        """What was asked may fail in such a round, or still be under way; but not be refused as nonsense."""
        error = request.answer()
        if error and not (isinstance(error, Refused) and (error.status == 409 or error.status >= 500)):
            raise error

    def dies(self, server):
        """Whether the agent ended by itself before the operation did."""
        limit = time.monotonic() + DEATH_SECONDS
        while time.monotonic() < limit:
            if self.ground.agent.dies(0.05):
                return True
            found = self.ground.client.find(server)
            if (found is None or found["OS-EXT-STS:task_state"] is None) and not self.ground.client.tasks(server):
                # The end of the agent's own work may be a moment behind.
                return self.ground.agent.dies(2)
        return False

    def judge(self, operation, found, failed=False, whole=False):
        """The server is as before, or as the operation makes it (only that if `whole`); or in ERROR, with a reason, when
        something `failed`."""
        status = found["status"]
        self.note += f": {operation.name} is {status}"
        allowed = {operation.brings, *operation.also} if whole else {operation.brings, operation.needs, *operation.also}
        if status == "ERROR" and failed:
            if not found.get("fault", {}).get("message"):
                raise Wrong("ERROR without a reason")
        elif status not in allowed:
            raise Wrong(f"{status} is not what it may be: {found.get('fault')}\n{self.ground.tail()}")
        problem = self.ground.holds()
        if problem:
            raise Wrong(f"{problem}\n{self.ground.tail()}")

    # A round in which what the agent works with dies.

    def disturb(self, operation, victim, moment):
        ground = self.ground
        begun = ground.begin(operation)
        request = Request(ground, operation, begun)
        time.sleep(moment)
        if victim == "libvirtd":
            ground.kill_libvirtd()
        else:
            self.met = self.kill_qemu(request.server)
        # A libvirtd that ends is started again, as by a service manager; also one that crashes because QEMU did.
        ground.guardian.revive()
        found = ground.settled(request.server)
        self.check_answer(request)
        # A guest whose QEMU was killed is off, which the API must say.
        is_ended = self.met if victim == "QEMU" else self.ended_by_libvirtd(found)
        also = {"SHUTOFF"} if is_ended else set()
        self.judge(dataclasses.replace(operation, also=(*operation.also, *also)), found, failed=True)
        self.leave(request.server)

    def ended_by_libvirtd(self, found):
        """Whether libvirtd, when it came back, ended the guest: 9.0 does when it cannot repeat the end of an unplugging
        that QEMU had finished."""
        if found["status"] != "SHUTOFF":
            return False
        reason = virsh("domstate", found["id"], "--reason").strip()
        self.note += f", {reason}"
        return reason == "shut off (daemon)"

    def kill_qemu(self, server):
        """Kills the guest's QEMU; when there is none at this moment, a moment later, while the operation lasts. False
        when there was none."""
        limit = time.monotonic() + 2
        while time.monotonic() < limit:
            try:
                self.ground.kill_qemu(server)
                return True
            except (subprocess.CalledProcessError, FileNotFoundError, ProcessLookupError):
                found = self.ground.client.find(server)
                if found is None or found["OS-EXT-STS:task_state"] is None:
                    break
                time.sleep(0.02)
        return False


class Wrong(Exception):
    """What a round found."""
