"""Debian's cloud-init reads who it is: from the drive of one server, from the metadata service of another."""

import concurrent.futures

from apus_host import debian_image
from guests import Guest

# Without hardware virtualization a whole distribution takes its time.
SECONDS = 900
SOURCES = ("ConfigDrive", "OpenStack")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJgrTgG5tYpyrzyD6dcBcqVxKzSIlGpmQTvCbZPDsg3k someone@somewhere"
SCRIPT = """#!/bin/sh
echo "apus-check: hostname $(hostname)"
echo "apus-check: key $(cat /home/*/.ssh/authorized_keys)"
echo "apus-check: datasource $(cat /var/lib/cloud/instance/datasource)"
echo "apus-check: uuid $(cat /var/lib/cloud/data/instance-id)"
"""


def run(ground, checks):
    client = ground.control.client()
    client.compute("POST", "/os-keypairs", {"keypair": {"name": "debian", "public_key": KEY}})
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for each in [pool.submit(one, ground, checks, source) for source in SOURCES]:
                each.result()
    finally:
        client.compute("DELETE", "/os-keypairs/debian")


def one(ground, checks, source):
    client = ground.control.client()
    image = client.make_image(f"debian-{source}", debian_image(source))
    flavor = client.compute(
        "POST", "/flavors", {"flavor": {"name": f"debian-{source}", "ram": 768, "vcpus": 1, "disk": 2}})["flavor"]["id"]
    name = f"reads-{source.lower()}"
    guest = Guest(ground, name, image, SCRIPT, flavorRef=flavor, key_name="debian")
    try:
        guest.settle("ACTIVE")
        seen = guest.until(r"^.*apus-check: hostname (\S+)", SECONDS)[1]
        checks.check(f"cloud-init by {source}: hostname", seen.split(".")[0] != name and seen)
        seen = guest.until(r"apus-check: key (.*)", SECONDS)[1]
        checks.check(f"cloud-init by {source}: key", KEY not in seen and seen)
        seen = guest.until(r"apus-check: datasource (.*)", SECONDS)[1]
        checks.check(f"cloud-init by {source}: its source", source not in seen and seen)
        seen = guest.until(r"apus-check: uuid (\S+)", SECONDS)[1]
        checks.check(f"cloud-init by {source}: who it is", seen != guest.id and seen)
    finally:
        guest.remove()
        client.image("DELETE", f"/images/{image}")
        client.compute("DELETE", f"/flavors/{flavor}")
