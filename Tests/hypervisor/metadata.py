"""What guests are told of themselves on 169.254.169.254, and who is told nothing."""

import hashlib

from guests import Guest, differs

SECONDS = 90


def run(ground, checks):
    client = ground.control.client()
    first = Guest(ground, "asks", ground.image, "apus-metadata=yes\n").ready()
    try:
        own = first.until(r"^apus-guest: address ([0-9.]+)", SECONDS)[1]
        said = {
            "uuid": first.id, "passwords": "0", "hostname": "asks.novalocal", "address": own,
            "user data": hashlib.md5(b"apus-metadata=yes\n").hexdigest(), "versions": "11",
        }
        for name, value in said.items():
            got = first.until(rf"^apus-guest: metadata {name} (\S+)", SECONDS)[1]
            checks.check(f"metadata: {name}", differs(got, value))
        refusal = first.until(r"^apus-guest: metadata nothing: (.*)", SECONDS)[1]
        checks.check("metadata: what is not there", "404" not in refusal and refusal)
        # The neighbour's address, taken by another: the MAC is not his.
        text = f"apus-metadata=yes\napus-spoof={own}\n"
        client.act(first.id, "os-stop")
        first.settle("SHUTOFF")
        thief = Guest(ground, "spoofs", ground.image, text).ready()
        try:
            got = thief.until(r"^apus-guest: metadata uuid (\S+)", SECONDS)[1]
            checks.check("metadata: another guest's own", differs(got, thief.id))
            refusal = thief.until(r"^apus-guest: metadata spoofed: (.*)", SECONDS)[1].strip()
            checks.check("metadata: from another's address", "404" not in refusal and refusal)
        finally:
            thief.remove()
    finally:
        first.remove()
