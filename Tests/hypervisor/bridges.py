"""The metadata service on two bridges of one host, whose guests have the same address: each is told of itself.

A host's guests come on two networks when `[compute] network` becomes another one: those that are there stay where they are.
"""

import contextlib
import re
import subprocess
import tempfile

from apus_host import virsh, wait_for
from guests import Guest, differs

NETWORK, BRIDGE = "twin", "virbr-twin"
SERVICE = "169.254.169.254"
SECONDS = 120
# So often each guest is to be told of itself, one time after the other.
LOOKS = 4
TEXT = "apus-look=1\n"


def run(cloud, checks):
    usual = list(cloud.agent.options)
    first = Guest(cloud, "asks-here", cloud.image, TEXT).ready()
    try:
        address = first.until(r"^apus-guest: address ([0-9.]+)", SECONDS)[1]
        with twin(address):
            cloud.agent.options += ["--set", f"compute.network=libvirt:{NETWORK}"]
            cloud.restart_agent()
            second = Guest(cloud, "asks-there", cloud.image, TEXT)
            try:
                second.ready()
                got = second.until(r"^apus-guest: address ([0-9.]+)", SECONDS)[1]
                checks.check("bridges: two guests have one address", differs(got, address))
                for bridge in ("virbr0", BRIDGE):
                    wait_for(lambda: served(bridge), SECONDS, f"the service on {bridge}", pause=0.2)
                for guest in (first, second):
                    checks.check(f"bridges: {guest.name} is told of itself, each time", told_of_itself(guest))
                told = {guest.name: set(answers(guest)) - {"none"} for guest in (first, second)}
                wanted = {guest.name: {guest.id} for guest in (first, second)}
                checks.check("bridges: neither was ever told of the other", differs(told, wanted))
            finally:
                second.remove()
            cloud.agent.options = list(usual)
            cloud.restart_agent()
            checks.check("bridges: with its last guest, and its network's turn, the service leaves a bridge", gone(BRIDGE))
            checks.check("bridges: the guest that stays is still told of itself", told_of_itself(first))
    finally:
        cloud.agent.options = usual
        cloud.restart_agent()
        first.remove()


def answers(guest):
    """Whose uuid the guest was told, look by look; "none" where nobody has answered."""
    return re.findall(r"^apus-guest: look \d+ .* metadata (\S+) up", guest.console(), re.MULTILINE)


def told_of_itself(guest):
    """None once it was told of itself so often from now on; else the sentence."""
    before = len(answers(guest))
    try:
        wait_for(lambda: answers(guest)[before:].count(guest.id) >= LOOKS, SECONDS, "the guest to be told", pause=0.5)
    except TimeoutError as error:
        return f"{error}: {answers(guest)[before:]}"
    return None


def served(bridge):
    said = subprocess.run(["ip", "-4", "-o", "address", "show", "dev", bridge], capture_output=True, text=True).stdout
    return f" {SERVICE}/" in said


def gone(bridge):
    try:
        wait_for(lambda: not served(bridge), SECONDS, f"the service's end on {bridge}", pause=0.2)
    except TimeoutError as error:
        return str(error)
    return None


@contextlib.contextmanager
def twin(address):
    """A further network that has this one address to give, with a mask of its own: libvirt refuses two that are alike."""
    head, last = address.rsplit(".", 1)
    block = int(last) & ~63
    gateway = next(f"{head}.{block + n}" for n in (62, 61) if block + n != int(last))
    xml = (f"<network><name>{NETWORK}</name><bridge name='{BRIDGE}' stp='off' delay='0'/><forward mode='open'/>"
           f"<ip address='{gateway}' netmask='255.255.255.192'><dhcp><range start='{address}' end='{address}'/></dhcp>"
           "</ip></network>")
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(xml)
        file.flush()
        virsh("net-define", file.name)
    try:
        virsh("net-start", NETWORK)
        yield
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            virsh("net-destroy", NETWORK)
        virsh("net-undefine", NETWORK)
