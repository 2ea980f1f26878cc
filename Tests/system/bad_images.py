"""Images that are not what they claim."""

import os
import socket
import subprocess
import urllib.parse

from apus_client import Refused
from apus_host import wait_for

TYPE = {"Content-Type": "application/octet-stream"}


def run(rig):
    folder = os.path.join(rig.apus.folder, "files")
    os.makedirs(folder, exist_ok=True)

    def path(name):
        return os.path.join(folder, name)

    def qemu_img(*arguments):
        subprocess.run(["qemu-img", *arguments], check=True, stdout=subprocess.DEVNULL)

    with open(path("zeros"), "wb") as file:
        file.truncate(1 << 20)
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", path("zeros"), path("backed"))
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={path('data')},data_file_raw=on", path("split"), "1M")
    qemu_img("create", "-q", "-f", "qcow2", path("plain"), "1M")
    with open(path("plain"), "rb") as file, open(path("headed"), "wb") as copy:
        copy.write(file.read(512))
        copy.truncate(1 << 20)
    with open(path("empty"), "wb"):
        pass
    refused_uploads = [
        ("a qcow2 with a backing file", "backed", "qcow2", ["backing"]),
        ("a qcow2 with an external data file", "split", "qcow2", ["external"]),
        ("a qcow2 that claims to be raw", "plain", "raw", ["qcow2"]),
        ("a raw file that begins with a qcow2 header", "headed", "raw", ["qcow2"]),
        ("a raw file that claims to be qcow2", "zeros", "qcow2", ["qcow2"]),
        ("an empty file", "empty", "raw", []),
    ]
    for name, file, form, words in refused_uploads:
        identifier = record(rig, form)
        with open(path(file), "rb") as source:
            rig.refused(name, 400, words, "PUT", f"/image/v2/images/{identifier}/file", source.read(), TYPE)
        still_empty(rig, name, identifier)
    truncated(rig)
    for form in ("vmdk", "vhd", "no such"):
        body = f'{{"name": "x", "disk_format": "{form}", "container_format": "bare"}}'.encode()
        rig.refused(f"the format {form}", 400, ["disk format", form], "POST", "/image/v2/images", body)
    qemu_img("create", "-q", "-f", "qcow2", path("big"), "20G")
    big = rig.client.make_image("big", path("big"))
    body = (f'{{"server": {{"name": "x", "imageRef": "{big}", "flavorRef": "{rig.flavor["id"]}", "networks": "auto"}}}}')
    rig.refused("an image bigger than the flavor's disk", 400, ["disk", "small"], "POST", "/compute/v2.1/servers",
                body.encode())
    rig.client.image("DELETE", f"/images/{big}")
    changed(rig, path("plain"), path("backed"))
    rig.nothing_left("bad images")


def record(rig, form):
    fields = {"name": "suspect", "disk_format": form, "container_format": "bare"}
    return rig.client.image("POST", "/images", fields)["id"]


def still_empty(rig, name, identifier):
    """The image has no bytes, on disk neither, and can be deleted."""
    status = rig.client.image("GET", f"/images/{identifier}")["status"]
    left = [name for name in os.listdir(os.path.join(rig.apus.state, "images")) if name.startswith(identifier)]
    rig.checks.check(f"{name}: no image and no bytes come of it", (status != "queued" or left) and f"{status}, {left}")
    rig.client.image("DELETE", f"/images/{identifier}")


def truncated(rig):
    """The client promises a mebibyte and goes away after half of it."""
    identifier = record(rig, "raw")
    parts = urllib.parse.urlsplit(rig.client.base)
    token = rig.client.authenticate()
    head = (f"PUT /image/v2/images/{identifier}/file HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Auth-Token: {token}\r\n"
            f"Content-Type: {TYPE['Content-Type']}\r\nContent-Length: {1 << 20}\r\n\r\n")
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(head.encode() + bytes(1 << 19))
        wait_for(rig.apus.unfinished_files, 30, "the upload's begin")
    wait_for(lambda: not rig.apus.unfinished_files()
             and rig.client.image("GET", f"/images/{identifier}")["status"] == "queued", 30, "the upload's end")
    still_empty(rig, "a truncated upload", identifier)


def changed(rig, good, evil):
    """The bytes in the store are not those that were uploaded: the host looks at them again itself."""
    identifier = rig.client.make_image("changed", good)
    stored = os.path.join(rig.apus.state, "images", identifier)
    size = os.path.getsize(stored)
    with open(evil, "rb") as source:
        bytes_ = source.read()
    with open(stored, "r+b") as file:
        file.write(bytes_[:size].ljust(size, b"\0"))
        file.truncate(size)
    rig.fails("an image whose bytes were changed in the store", ["image"], image=identifier)
    rig.client.image("DELETE", f"/images/{identifier}")
    try:
        rig.client.image("GET", f"/images/{identifier}")
        rig.checks.check("a deleted image is gone", "it is there")
    except Refused as refused:
        rig.checks.check("a deleted image is gone", refused.status != 404 and str(refused))
