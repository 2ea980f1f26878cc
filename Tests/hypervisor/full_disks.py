"""The host's file systems are full while something is to be written."""

import contextlib
import os
import subprocess

from apus_host import virsh, wait_for
from guests import SETTLE_SECONDS, Guest, Stopwatch, differs, told

SAVED = "/var/lib/libvirt/qemu/save"
# From libvirt's word to the API's.
EVENT_SECONDS = 1.5
PAUSED, RUNNING = 3, 1


def run(ground, checks):
    guest = Guest(ground, "crowded", ground.talking, "apus-write=yes\n").ready()
    grower = Guest(ground, "growing", ground.talking, "apus-grow=yes\n").ready()
    with filled(ground, 1 << 20):
        halted(grower, checks)
    resumed(grower, checks)
    grower.remove()
    with filled(ground, 1 << 20):
        snapshot(guest, checks)
        rebuild(ground, guest, checks)
    with filled(ground, 0):
        rescue(guest, checks)
    # Whatever it is in, it is a server that can be acted on.
    if guest.shown()["status"] != "ACTIVE":
        guest.act("reboot", {"type": "HARD"}, "ACTIVE")
    checks.check("with room again the guest runs", guest.goes_on(0))
    suspend(guest, checks)
    guest.remove()


@contextlib.contextmanager
def filled(ground, free_bytes):
    """The file system of the instances has no more than `free_bytes` left."""
    path = os.path.join(ground.place, "filler")
    space = os.statvfs(ground.place)
    with open(path, "wb") as file:
        count = space.f_bavail * space.f_frsize - free_bytes
        # What the file system needs to describe the file is not known before.
        while count > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, count)
                break
            except OSError:
                count -= 64 << 10
    try:
        yield
    finally:
        os.unlink(path)


def snapshot(guest, checks):
    tick = guest.tick()
    guest.act("createImage", {"name": "too-much"}, "ACTIVE")
    checks.check("a full disk fails a snapshot, and says so", told(guest.failure(), "free"))
    checks.check("nothing is left of it", differs((guest.images("too-much"), guest.copies()), ([], [])))
    checks.check("the guest ticks on", guest.goes_on(tick))


def rebuild(ground, guest, checks):
    """The new image is not in the cache, and does not fit."""
    boots = guest.boots()
    guest.act("rebuild", {"imageRef": ground.unused})
    server = guest.settled()
    checks.check("a full disk fails a rebuild, and says so", told(guest.failure(), "free"))
    checks.check("the rebuild has not begun: the guest is as it was",
                 differs((server["status"], guest.domain(), guest.boots()), ("ACTIVE", "running", boots)))
    checks.check("and the record names the image that its disk is made from",
                 differs(server["image"]["id"], ground.talking))


def rescue(guest, checks):
    before = guest.ground.files(guest.id)
    guest.act("rescue", {})
    server = guest.settled()
    said = guest.failure()
    checks.check("a full disk fails a rescue, and says so",
                 told(said, "space") and told(said, "free") and f"{server['status']}: {said}")
    checks.check("nothing is left of the rescue", differs(guest.ground.files(guest.id), before))
    checks.check("the server is settled", None if server["status"] in ("ACTIVE", "ERROR") else server["status"])
    expected = "running" if server["status"] == "ACTIVE" else "shut off"
    checks.check(f"and really {server['status']}", differs(guest.domain(), expected))


def suspend(guest, checks):
    """libvirt's folder of saved memory is full."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", SAVED], check=True)
    try:
        tick = guest.tick()
        guest.act("suspend")
        server = guest.settled()
        said = guest.failure()
        checks.check("a full disk fails a suspend, and says so", None if said else f"no reason, {server['status']}")
        checks.check("the guest is not suspended",
                     differs((server["status"], guest.domain()), ("ACTIVE", "running")))
        checks.check("it ticks on after the failed suspend", guest.goes_on(tick))
        checks.check("nothing is left of its memory", differs(os.listdir(SAVED), []))
    finally:
        subprocess.run(["umount", SAVED], check=True)
    guest.act("suspend", None, "SUSPENDED")
    guest.act("resume", None, "ACTIVE")
    checks.check("with room the suspend succeeds", guest.goes_on(tick))


def halted(guest, checks):
    """A running guest writes where no room is: QEMU halts it, and the API knows from the event."""
    wait_for(lambda: "I/O error" in virsh("domstate", "--reason", guest.id), SETTLE_SECONDS, "the halt", pause=0.02)
    watch = Stopwatch()
    wait_for(lambda: guest.shown()["OS-EXT-STS:power_state"] == PAUSED, 30, "the API to know of the halt", pause=0.02)
    seconds = watch.seconds
    checks.check(f"a guest halted by an I/O error is seen in the API ({seconds:.2f} s)",
                 None if seconds < EVENT_SECONDS else "too late")
    fault = guest.shown().get("fault", {}).get("message", "")
    checks.check("and why it halts", told(fault, "I/O error"))


def resumed(guest, checks):
    tick = guest.tick()
    virsh("resume", guest.id)
    watch = Stopwatch()
    wait_for(lambda: guest.shown()["OS-EXT-STS:power_state"] == RUNNING, 30, "the API to know that it runs", pause=0.02)
    checks.check("let go on by hand, it runs in the API too",
                 None if watch.seconds < EVENT_SECONDS else f"after {watch.seconds:.1f} s")
    checks.check("with room it ticks on", guest.goes_on(tick))
    checks.check("and nothing is at fault any more", differs(guest.shown().get("fault"), None))
