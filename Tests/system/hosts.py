"""Launches that no host can carry out."""

import os
import subprocess
import uuid

from apus_host import virsh, wait_for


def run(rig):
    no_host(rig)
    quota(rig)
    name_taken(rig)
    full_disk(rig)


def make_flavor(rig, name, **values):
    flavor = {"name": name, "ram": 128, "vcpus": 1, "disk": 1, **values}
    return rig.client.compute("POST", "/flavors", {"flavor": flavor})["flavor"]["id"]


def no_host(rig):
    flavor = make_flavor(rig, "vast", disk=1_000_000)
    rig.fails("no host with so much disk", ["No valid host", "1 host", "disk", "nearest"], flavor=flavor)
    rig.client.compute("DELETE", f"/flavors/{flavor}")


def quota(rig):
    flavor = make_flavor(rig, "greedy", ram=10_000_000)
    body = f'{{"server": {{"name": "x", "imageRef": "{rig.image}", "flavorRef": "{flavor}", "networks": "auto"}}}}'
    rig.refused("more memory than the quota", 403, ["quota", "ram"], "POST", "/compute/v2.1/servers", body.encode())
    rig.client.compute("DELETE", f"/flavors/{flavor}")
    rig.nothing_left("a refused quota")


def name_taken(rig):
    """Somebody has defined domains by hand, with the names that come next: libvirt refuses ours."""
    server = rig.launch("last")
    name = server["OS-EXT-SRV-ATTR:instance_name"]
    console(rig, server)
    rig.remove(server["id"])
    number = int(name.split("-")[1], 16)
    for step in (1, 2):
        identifier = str(uuid.uuid4())
        rig.foreign[identifier] = f"instance-{number + step:08x}"
        path = os.path.join(rig.apus.folder, "foreign.xml")
        with open(path, "w", encoding="ascii") as file:
            file.write(
                f"<domain type='qemu'><name>{rig.foreign[identifier]}</name><uuid>{identifier}</uuid>"
                "<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>")
        virsh("define", path)
    try:
        before = {identifier: virsh("dumpxml", "--inactive", identifier) for identifier in rig.foreign}
        rig.fails("libvirt refuses the XML", ["instance-", "exist"])
        after = {identifier: virsh("dumpxml", "--inactive", identifier) for identifier in rig.foreign}
        rig.checks.check("the foreign domains are untouched", before != after and f"{before} became {after}")
    finally:
        for identifier in rig.foreign:
            virsh("undefine", identifier)
        rig.foreign = {}
    # The name that was refused is used up, the next one is free again.
    rig.remove(rig.launch("next")["id"])
    rig.nothing_left("a launch after the refused one")


def console(rig, server):
    """The guest itself says that it booted, and who it is."""
    def told():
        answer = rig.client.compute("POST", f"/servers/{server['id']}/action", {"os-getConsoleOutput": {}})
        return f"hostname {server['name']}" in answer["output"] and server["id"] in answer["output"]

    try:
        wait_for(told, 60, "the guest's own words", pause=0.3)
        rig.checks.check("the guest says its hostname and uuid on its console")
    except TimeoutError as error:
        rig.checks.check("the guest says its hostname and uuid on its console", str(error))


def full_disk(rig):
    """The file system of the instances is full when the image is fetched, and works on once there is room."""
    place = os.path.join(rig.apus.folder, "small")
    disk = os.path.join(rig.apus.folder, "small.img")
    os.mkdir(place)
    with open(disk, "wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, place], check=True)
    try:
        os.chmod(place, 0o711)
        rig.apus.stop()
        rig.apus.start(["--set", f"DEFAULT.instances_path={place}/instances"])
        rig.reconnect()
        fresh, rig.before = rig.before, rig.held()
        filler = os.path.join(place, "filler")
        space = os.statvfs(place)
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - (6 << 20))
        rig.fails("a full disk during the image's download", ["bytes", "free"])
        os.unlink(filler)
        wait_for(lambda: rig.client.hypervisors()[0]["disk_available_least"] >= rig.flavor["disk"], 90,
                 "the host to report its room", pause=0.5)
        server = rig.launch("roomy")
        rig.checks.check("with room again a launch succeeds")
        rig.remove(server["id"])
        rig.nothing_left("the full disk")
        rig.before = fresh
    finally:
        rig.apus.stop()
        subprocess.run(["umount", place], check=True)
        os.unlink(disk)
        rig.apus.start()
        rig.reconnect()
