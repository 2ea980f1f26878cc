"""The image service dies in the middle of a download and of an upload; servers are deleted in the middle of a copy;
libvirt loses a copy that it began."""

import glob
import os
import time

from apus_host import wait_for
from guests import SETTLE_SECONDS, Guest, differs, told

TAKING = ("image_snapshot", "image_pending_upload")


def run(ground, checks):
    """On a host that does nothing else: the API is down for a while."""
    guest = killed_download(ground, checks)
    if guest is None:
        return
    killed_upload(ground, checks, guest)
    deleted(ground, checks, guest, "its disk is copied", TAKING)
    second = Guest(ground, "fat-two", ground.fat).ready()
    deleted(ground, checks, second, "its copy is uploaded", ("image_uploading",))


def lost_backup(ground, checks):
    """What libvirtd leaves in its record of a domain when it is killed while it begins a backup: it holds the domain for
    a job that nobody ends."""
    guest = Guest(ground, "held", ground.image).ready()
    record = f"/run/libvirt/qemu/{guest.shown()['OS-EXT-SRV-ATTR:instance_name']}.xml"
    with ground.guardian.lock:
        ground.kill_libvirtd()
        with open(record, encoding="utf-8") as file:
            text = file.read()
        job = "<job type='none' async='backup' flags='0x0' asyncStarted='1'/>"
        with open(record, "w", encoding="utf-8") as file:
            file.write(text.replace("</domstatus>", f"{job}</domstatus>"))
    ground.guardian.revive()
    tick = guest.tick()
    for action, argument, what in (
            ("createImage", {"name": "held-copy"}, "a snapshot"), ("suspend", None, "a suspend")):
        began = time.monotonic()
        guest.act(action, argument)
        guest.settle("ACTIVE")
        took = time.monotonic() - began
        checks.check(f"{what} of a guest that libvirt holds for a lost copy is refused at once, and says what to do",
                     told(guest.failure() or "no failure", "hard reboot") or (took > 20 and f"{took:.1f} s") or None)
    checks.check("the guest goes on, held as it is", guest.goes_on(tick))
    guest.act("reboot", {"type": "HARD"}, brings="ACTIVE")
    guest.act("createImage", {"name": "held-copy"}, brings="ACTIVE")
    checks.check("a hard reboot lets go of it: the snapshot succeeds",
                 differs([image["status"] for image in guest.images("held-copy")], ["active"]) or guest.failure())
    for image in guest.images("held-copy"):
        guest.client.image("DELETE", f"/images/{image['id']}")
    guest.remove()


def kill_api(ground):
    """SIGKILL, and a new process at once."""
    api = ground.control.daemons[2]
    api.kill()
    api.start(ready="api listens")


def killed_download(ground, checks):
    """Its guest, or None when it did not come to be."""
    guest = Guest(ground, "fat", ground.fat)

    def part():
        sizes = [os.path.getsize(path) for path in glob.glob(f"{ground.instances}/_base/*.part")]
        return next((size for size in sizes if 0 < size), None)

    size = wait_for(part, SETTLE_SECONDS, "the download to begin", pause=0.001)
    kill_api(ground)
    checks.check("the image service dies in the middle of a download",
                 None if size < ground.fat_bytes / 2 else f"{size} of {ground.fat_bytes} bytes were there")
    server = guest.settled()
    if server["status"] == "ACTIVE":
        checks.check("the launch goes on when it is back", differs(guest.boots(), 1))
        return guest
    fault = server.get("fault", {}).get("message")
    checks.check("the launch goes on when it is back", f"{server['status']}: {fault}")
    guest.remove()
    return None


def killed_upload(ground, checks, guest):
    tick = guest.tick()
    guest.act("createImage", {"name": "fat-copy"})
    there = guest.awaits(("image_uploading",))
    kill_api(ground)
    checks.check("the image service dies in the middle of an upload", None if there else f"too late: {guest.failure()}")
    guest.settle("ACTIVE")
    images = guest.images("fat-copy")
    if not checks.check("the snapshot goes on when it is back",
                        differs([image["status"] for image in images], ["active"]) or guest.failure()):
        return
    checks.check("the guest has ticked on all the while", guest.goes_on(tick))
    checks.check("nothing is left of the copy on the host", differs(guest.copies(), []))
    copy = Guest(ground, "from-copy", images[0]["id"])
    copy.settle("ACTIVE")
    checks.check("a guest boots from what was uploaded", differs(copy.boots(), 2))
    copy.remove()
    guest.client.image("DELETE", f"/images/{images[0]['id']}")


def deleted(ground, checks, guest, what, states):
    guest.act("createImage", {"name": f"{guest.name}-lost"})
    there = guest.awaits(states)
    guest.client.compute("DELETE", f"/servers/{guest.id}")
    state = guest.shown().get("OS-EXT-STS:task_state")
    checks.check(f"a server is deleted while {what}", None if there else f"too late: {state}")
    # A deletion can be taken back on this cloud; for good goes what is deleted by force.
    guest.remove()
    checks.check(f"it is gone, deleted while {what}", differs((guest.domain(), guest.copies()), (None, [])))
    images = guest.images(f"{guest.name}-lost")
    checks.check(f"its image is complete or gone, deleted while {what}",
                 None if all(image["status"] == "active" for image in images) else f"{images}")
    for image in images:
        guest.client.image("DELETE", f"/images/{image['id']}")
