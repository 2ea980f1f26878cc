"""Guests that do not do what they are told: deaf to the power button, or with an agent that hangs."""

from apus_client import Refused
from guests import Guest, Stopwatch, differs, told

# The host's shutdown_timeout and wait_soft_reboot_seconds; the image's own os_shutdown_timeout.
HOST_SECONDS, REBOOT_SECONDS, IMAGE_SECONDS = 8, 5, 4
# What the driver gives an agent to answer, and a machine with other work on top.
ANSWER_SECONDS = 30
TALK = "apus-write=yes\n"


def deaf(ground, checks):
    """A guest that ignores ACPI is turned off when its time is up, and not before."""
    guest = Guest(ground, "deaf", ground.deaf).ready()
    patient = Guest(ground, "patient", ground.deaf_patient).ready()

    def stop(guest, seconds, whose):
        watch = Stopwatch()
        guest.act("os-stop", None, "SHUTOFF")
        problem = None if seconds <= watch.seconds < seconds + 10 else f"after {watch.seconds:.1f} s"
        checks.check(f"a stop ends a deaf guest after {whose} ({seconds} s)", problem)
        checks.check(f"it is off after {whose}", differs(guest.domain(), "shut off"))

    stop(guest, HOST_SECONDS, "shutdown_timeout")
    stop(patient, IMAGE_SECONDS, "os_shutdown_timeout")
    patient.remove()
    guest.act("os-start", None, "ACTIVE")
    guest.until("tick ")
    boot, watch = guest.boot_id(), Stopwatch()
    guest.act("reboot", {"type": "SOFT"}, "ACTIVE")
    took = watch.seconds
    guest.until("tick ")
    checks.check("a soft reboot of a deaf guest becomes a hard one", differs(guest.boot_id() != boot, True))
    checks.check("that waits wait_soft_reboot_seconds",
                 None if REBOOT_SECONDS <= took < REBOOT_SECONDS + 10 else f"{took:.1f} s")
    guest.remove()


def silent(ground, checks):
    """An agent that has opened its port and answers nothing."""
    guest = Guest(ground, "silent", ground.talking, TALK + "apus-agent=silent\n").ready()
    guest.connected()
    password(guest, checks, "a silent agent")
    copies(guest, checks, "a silent agent")
    tick = guest.tick()
    guest.act("pause", None, "PAUSED")
    guest.act("unpause", None, "ACTIVE")
    checks.check("unpause works with a silent agent", guest.goes_on(tick))
    watch = Stopwatch()
    guest.act("os-stop", None, "SHUTOFF")
    checks.check("stop works with a silent agent", None if watch.seconds < ANSWER_SECONDS else f"{watch.seconds:.1f} s")
    guest.remove()


def silent_strict(ground, checks):
    """The same, and the image wants its guests quiesced."""
    guest = Guest(ground, "strict", ground.strict, TALK + "apus-agent=silent\n").ready()
    guest.connected()
    refused_copy(guest, checks, "a silent agent")
    guest.remove()


def hanging(ground, checks):
    """An agent that answers, and hangs while it freezes the file systems."""
    guest = Guest(ground, "hanging", ground.strict, TALK + "apus-agent=hang\n").ready()
    guest.connected()
    refused_copy(guest, checks, "an agent that hangs")
    checks.check("the agent was asked to freeze", differs("agent hangs" in guest.console(), True))
    checks.check("that it may freeze yet is remembered", differs([file[-7:] for file in guest.copies()], [".frozen"]))
    password(guest, checks, "an agent that hangs")
    guest.remove()
    checks.check("and forgotten with the guest", differs(guest.copies(), []))


def hanging_lenient(ground, checks):
    guest = Guest(ground, "lenient", ground.talking, TALK + "apus-agent=hang\n").ready()
    guest.connected()
    copies(guest, checks, "an agent that hangs")
    guest.remove()


def password(guest, checks, whose):
    watch = Stopwatch()
    try:
        guest.act("changePassword", {"adminPass": "n3w-Password"})
        guest.settled()
        said = guest.failure()
    except Refused as refused:
        said = refused.message if refused.status in (409, 501) else f"HTTP {refused.status}: {refused.message}"
    name = f"changePassword with {whose}"
    checks.check(f"{name} fails, and says why", told(said, "guest agent"))
    checks.check(f"{name} takes no longer than its time",
                 None if watch.seconds < ANSWER_SECONDS else f"{watch.seconds:.1f} s")
    guest.settle("ACTIVE")
    checks.check(f"{name} leaves the guest running", guest.goes_on(guest.tick()))


def copies(guest, checks, whose):
    """A snapshot that may do without quiescing does."""
    name = f"{guest.name}-copy"
    guest.act("createImage", {"name": name}, "ACTIVE")
    checks.check(f"a snapshot with {whose} goes on unquiesced",
                 differs([image["status"] for image in guest.images(name)], ["active"]) or guest.failure())
    checks.check(f"and the guest with {whose} runs on, thawed", guest.goes_on(guest.tick()))
    for image in guest.images(name):
        guest.client.image("DELETE", f"/images/{image['id']}")


def refused_copy(guest, checks, whose):
    """A snapshot that must be quiesced fails."""
    name = f"{guest.name}-copy"
    watch = Stopwatch()
    guest.act("createImage", {"name": name}, "ACTIVE")
    # libvirt's word for what hangs is "agent", too.
    checks.check(f"a snapshot that must be quiesced fails with {whose}, and says why", told(guest.failure(), "agent"))
    checks.check(f"within a minute and a half, with {whose}", None if watch.seconds < 90 else f"{watch.seconds:.0f} s")
    # That the guest may be frozen is remembered until it is known better.
    copies = [file for file in guest.copies() if not file.endswith(".frozen")]
    checks.check(f"nothing is left of it with {whose}", differs((guest.images(name), copies), ([], [])))
    checks.check(f"the guest with {whose} runs on, thawed", guest.goes_on(guest.tick()))
