"""The whole life of a guest: its disk through every operation, and what changes while it runs."""

import base64

from guests import Guest, differs, digest

PERSONALITY = b"injected by the test\n"
USER_DATA = "apus-test=1\n"


def disk(ground, checks):
    """The count of boots on the guest's disk rises by one with each boot, and by none with what is no boot."""
    guest = Guest(
        ground, "disk", ground.talking, USER_DATA, metadata={"color": "red"},
        personality=[{"path": "/etc/test", "contents": base64.b64encode(PERSONALITY).decode()}]).ready()
    checks.check("a launch boots from a disk of its own", differs(guest.boots(), 1))
    console = guest.console()
    checks.check("the guest sees its user data", differs(f"user data {digest(USER_DATA.encode())}" in console, True))
    checks.check("the guest sees its personality file", differs(f"injected {digest(PERSONALITY)}" in console, True))

    guest.act("os-stop", None, "SHUTOFF")
    checks.check("a stop shuts the guest down", differs(guest.domain(), "shut off"))
    guest.act("os-start", None, "ACTIVE")
    checks.check("its disk survives stop and start", differs(guest.boots(), 2))
    boot = guest.boot_id()
    guest.act("reboot", {"type": "SOFT"}, "ACTIVE")
    checks.check("its disk survives a soft reboot", differs((guest.boots(), guest.boot_id() != boot), (3, True)))
    boot = guest.boot_id()
    guest.act("reboot", {"type": "HARD"}, "ACTIVE")
    checks.check("its disk survives a hard reboot", differs((guest.boots(), guest.boot_id() != boot), (4, True)))

    tick = guest.tick()
    guest.act("suspend", None, "SUSPENDED")
    checks.check("a suspend ends its process", differs(guest.domain(), "shut off"))
    guest.act("resume", None, "ACTIVE")
    checks.check("a resumed guest ticks on", guest.goes_on(tick))
    checks.check("a resume is no boot", differs("boot id" in guest.console(), False))

    guest.act("shelve", None, "SHELVED_OFFLOADED")
    checks.check("an offloaded guest has nothing on the host",
                 differs((guest.domain(), guest.id in ground.folders()), (None, False)))
    guest.act("unshelve", None, "ACTIVE")
    checks.check("its disk survives shelve, offload and unshelve", differs(guest.boots(), 5))
    checks.check("no image is left of the shelving", differs(guest.images("disk-shelved"), []))

    guest.client.compute("DELETE", f"/servers/{guest.id}")
    guest.settle("SOFT_DELETED")
    checks.check("a soft deletion turns it off", differs(guest.domain(), "shut off"))
    guest.act("restore", None, "ACTIVE")
    checks.check("its disk survives soft deletion and restore", differs(guest.boots(), 6))

    guest.act("rescue", {}, "RESCUE")
    checks.check("a rescue boots from another disk", differs(guest.boots(), 1))
    # The guest counts boots from its first disk only: the second one tells what it holds.
    checks.check("a rescued guest sees its own disk beside it", differs(guest.boots("vdb"), 6))
    guest.act("unrescue", None, "ACTIVE")
    checks.check("its disk survives rescue and unrescue", differs(guest.boots(), 7))

    guest.act("rebuild", {"imageRef": ground.talking}, "ACTIVE")
    checks.check("a rebuild resets its disk", differs(guest.boots(), 1))
    guest.remove()


def changes(ground, checks):
    """What changes while the guest runs."""
    guest = Guest(ground, "changes", ground.talking).ready()
    guest.act("pause", None, "PAUSED")
    checks.check("a pause halts its processors", differs(guest.domain(), "paused"))
    tick = guest.tick()
    # A guest that went on would tick within the time that others of this run need for their work.
    other = Guest(ground, "beside", ground.talking).ready()
    checks.check("a paused guest does not tick", differs(guest.tick(), tick))
    other.remove()
    guest.act("unpause", None, "ACTIVE")
    checks.check("an unpaused guest ticks on", guest.goes_on(tick))

    guest.until("agent runs")
    guest.connected()
    guest.act("changePassword", {"adminPass": "n3w-Password"}, "ACTIVE")
    guest.until(r"root password \$")
    checks.check("the guest agent sets a password")

    interfaces(guest, checks)

    path = f"/servers/{guest.id}"
    guest.client.compute("PUT", f"{path}/metadata", {"metadata": {"color": "blue", "size": "small"}})
    guest.client.compute("DELETE", f"{path}/metadata/size")
    checks.check("metadata change", differs(guest.shown()["metadata"], {"color": "blue"}))
    guest.client.compute("PUT", f"{path}/tags", {"tags": ["one", "two"]})
    guest.client.compute("DELETE", f"{path}/tags/one")
    checks.check("tags change", differs(guest.shown()["tags"], ["two"]))
    guest.remove()


def interfaces(guest, checks):
    path = f"/servers/{guest.id}/os-interface"
    mac = guest.client.compute("POST", path, {"interfaceAttachment": {}})["interfaceAttachment"]["mac_addr"]
    guest.settle("ACTIVE")
    guest.until(f"mac {mac}")
    checks.check("the guest sees a NIC that is plugged in")
    guest.act("reboot", {"type": "HARD"}, "ACTIVE")
    guest.until("tick ")
    checks.check("the next boot has it too", differs(f"mac {mac}" in guest.console(), True))
    port = next(i["port_id"] for i in guest.client.compute("GET", path)["interfaceAttachments"] if i["mac_addr"] == mac)
    guest.client.compute("DELETE", f"{path}/{port}")
    guest.settle("ACTIVE")
    guest.until(r"nic \S+ gone")
    checks.check("the guest sees a NIC that is pulled out")
    guest.act("reboot", {"type": "HARD"}, "ACTIVE")
    guest.until("tick ")
    checks.check("the next boot has it no more", differs(f"mac {mac}" in guest.console(), False))
