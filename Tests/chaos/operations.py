"""How each kind of operation comes about: the state that it needs, and the request that begins it.

The kinds come from the agent (`apus-compute --list-steps`). One that is not in the table fails the run.
"""

import dataclasses
from typing import Callable, Optional

from apus_client import Refused
from apus_host import wait_for


@dataclasses.dataclass(frozen=True)
class Operation:
    name: str
    # The server's status before; None for a launch.
    needs: Optional[str]
    # Takes a client and the server's id, and asks; None for a launch.
    trigger: Optional[Callable]
    # The status that it brings about; "gone" for no server.
    brings: str
    # Whether the guest must be up, with a guest agent that answers.
    talks: bool = False
    # Other ends that are right when the operation was disturbed.
    also: tuple = ()
    # Whether the guest's kernel must be up: it takes part in what is asked of it.
    booted: bool = False
    # Whether the API's answer waits for the outcome, and so may tell of a failure.
    waits: bool = False


def action(name, argument=None):
    def trigger(client, server):
        client.act(server, name, argument)

    return trigger


def delete(client, server):
    client.act(server, "forceDelete", None)


def delete_softly(client, server):
    client.compute("DELETE", f"/servers/{server}")


def set_password(client, server):
    def probe():
        try:
            client.act(server, "changePassword", {"adminPass": "a-New-1"})
        except Refused as refused:
            # The guest says that its agent runs a moment before the agent has opened its port.
            is_early = "not connected" in refused.message or "does not answer" in refused.message
            if refused.status not in (409, 501) or not is_early:
                raise
            return False
        return True

    wait_for(probe, 20, "the guest agent to be connected", pause=0.5)


def make_image(client, server):
    client.act(server, "createImage", {"name": "chaos-snapshot"})


def make_backup(client, server):
    client.act(server, "createBackup", {"name": "chaos-backup", "backup_type": "daily", "rotation": 1})


def rebuild(client, server):
    client.act(server, "rebuild", {"imageRef": client.find(server)["image"]["id"]})


def attach_interface(client, server):
    client.compute("POST", f"/servers/{server}/os-interface", {"interfaceAttachment": {}})


def detach_interface(client, server):
    attached = client.compute("GET", f"/servers/{server}/os-interface")["interfaceAttachments"]
    client.compute("DELETE", f"/servers/{server}/os-interface/{attached[-1]['port_id']}")


# From which status, by which action, a status is reached; an ACTIVE server comes from a launch.
STATES = {
    "SHUTOFF": ("ACTIVE", "os-stop", None),
    "PAUSED": ("ACTIVE", "pause", None),
    "SUSPENDED": ("ACTIVE", "suspend", None),
    "RESCUE": ("ACTIVE", "rescue", {}),
    "SHELVED": ("ACTIVE", "shelve", None),
    "SHELVED_OFFLOADED": ("ACTIVE", "shelve", None),
    "SOFT_DELETED": ("ACTIVE", None, None),
}

OPERATIONS = {
    "guest.build": [Operation("a launch", None, None, "ACTIVE")],
    "guest.delete": [
        Operation("a deletion", "ACTIVE", delete, "gone"),
        Operation("a deletion of a stopped server", "SHUTOFF", delete, "gone"),
    ],
    "guest.start": [Operation("a start", "SHUTOFF", action("os-start"), "ACTIVE")],
    "guest.stop": [Operation("a stop", "ACTIVE", action("os-stop"), "SHUTOFF")],
    "guest.soft_reboot": [Operation("a soft reboot", "ACTIVE", action("reboot", {"type": "SOFT"}), "ACTIVE")],
    "guest.hard_reboot": [
        Operation("a hard reboot", "ACTIVE", action("reboot", {"type": "HARD"}), "ACTIVE"),
        Operation("a hard reboot of a stopped server", "SHUTOFF", action("reboot", {"type": "HARD"}), "ACTIVE"),
    ],
    "guest.pause": [Operation("a pause", "ACTIVE", action("pause"), "PAUSED")],
    "guest.unpause": [Operation("an unpause", "PAUSED", action("unpause"), "ACTIVE")],
    "guest.suspend": [Operation("a suspend", "ACTIVE", action("suspend"), "SUSPENDED")],
    "guest.resume": [Operation("a resume", "SUSPENDED", action("resume"), "ACTIVE")],
    "guest.rescue": [
        Operation("a rescue", "ACTIVE", action("rescue", {}), "RESCUE"),
        Operation("a rescue of a stopped server", "SHUTOFF", action("rescue", {}), "RESCUE"),
    ],
    "guest.unrescue": [Operation("an unrescue", "RESCUE", action("unrescue"), "ACTIVE")],
    "guest.rebuild": [
        Operation("a rebuild", "ACTIVE", rebuild, "ACTIVE"),
        Operation("a rebuild of a stopped server", "SHUTOFF", rebuild, "SHUTOFF"),
    ],
    "guest.snapshot": [
        Operation("a live snapshot", "ACTIVE", make_image, "ACTIVE"),
        Operation("a cold snapshot", "SHUTOFF", make_image, "SHUTOFF"),
        Operation("a backup", "ACTIVE", make_backup, "ACTIVE"),
    ],
    "guest.shelve": [
        Operation("a shelve", "ACTIVE", action("shelve"), "SHELVED", also=("SHELVED_OFFLOADED",)),
        Operation("a shelve of a stopped server", "SHUTOFF", action("shelve"), "SHELVED", also=("SHELVED_OFFLOADED",)),
    ],
    "guest.soft_delete": [Operation("a soft deletion", "ACTIVE", delete_softly, "SOFT_DELETED")],
    "guest.restore": [Operation("a restore", "SOFT_DELETED", action("restore"), "ACTIVE")],
    "guest.set_password": [
        Operation("a new password", "ACTIVE", set_password, "ACTIVE", talks=True, waits=True)
    ],
    "guest.attach_interface": [
        Operation("an interface more", "ACTIVE", attach_interface, "ACTIVE", booted=True, waits=True)
    ],
    "guest.detach_interface": [
        Operation("an interface less", "ACTIVE", detach_interface, "ACTIVE", booted=True)
    ],
}
