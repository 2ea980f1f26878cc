"""Launch through Apus, side by side with qemu-img create + virDomainCreateXML of the same finished XML.

Both sides end at the domain's STARTED event on this program's own connection. They alternate, the image is warm, and each
guest is gone before the next begins.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "Tests", "support")]

import libvirt  # noqa: E402
from apus_host import Apus, in_private_host, wait_for  # noqa: E402
from report import Report, count, percentile  # noqa: E402


class Starts:
    """When each domain was started, by the event."""

    def __init__(self, uri):
        libvirt.virEventRegisterDefaultImpl()
        self.at = {}
        self.changed = threading.Condition()
        threading.Thread(target=self._loop, daemon=True).start()
        self.connection = libvirt.open(uri)
        self.connection.setKeepAlive(5, 3)
        self.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._event, None)

    @staticmethod
    def _loop():
        while True:
            libvirt.virEventRunDefaultImpl()

    def _event(self, _connection, domain, event, _detail, _opaque):
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            now = time.monotonic()
            with self.changed:
                self.at[domain.UUIDString()] = now
                self.changed.notify_all()

    def wait(self, identifier, limit=60):
        with self.changed:
            if not self.changed.wait_for(lambda: identifier in self.at, timeout=limit):
                raise TimeoutError(f"domain {identifier} did not start in {limit} s")
            return self.at[identifier]


class Raw:
    """The other side: an overlay and a transient domain, as little as libvirt needs."""

    def __init__(self, starts, template, folder):
        self.starts, self.template, self.folder = starts, template, folder

    def launch(self):
        identifier = str(uuid.uuid4())
        place = os.path.join(self.folder, identifier)
        tree = ElementTree.fromstring(self.template)
        overlay = drive = None
        os.mkdir(place, 0o755)
        # Everything but the two measured calls is ready before the clock starts: XML, config drive, log file's folder.
        tree.find("name").text = "bench-" + identifier[:8]
        tree.find("uuid").text = identifier
        for old in tree.findall("seclabel"):
            tree.remove(old)
        for element in tree.iter():
            for key, value in element.attrib.items():
                if value.startswith(self.source + "/"):
                    element.set(key, place + value[len(self.source):])
        for mac in tree.iter("mac"):
            mac.set("address", "52:54:00:" + ":".join(identifier[i:i + 2] for i in (0, 2, 4)))
        for disk in tree.iter("disk"):
            path = disk.find("source").get("file")
            if disk.get("device") == "cdrom":
                drive = path
            else:
                overlay = path
        if drive:
            shutil.copyfile(os.path.join(self.source, os.path.basename(drive)), drive)
        text = ElementTree.tostring(tree, encoding="unicode")
        began = time.monotonic()
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", self.base_format, "-b", self.base, overlay, self.size],
            check=True)
        domain = self.starts.connection.createXML(text, 0)
        started = self.starts.wait(identifier)
        elapsed = started - began
        domain.destroy()
        shutil.rmtree(place)
        return elapsed

    def learn(self, source):
        """Where the template's own files are, and what its overlay is made of."""
        self.source = source
        tree = ElementTree.fromstring(self.template)
        disk = next(disk for disk in tree.iter("disk") if disk.get("device") != "cdrom")
        path = disk.find("source").get("file")
        said = subprocess.run(
            ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path], check=True, capture_output=True, text=True)
        info = json.loads(said.stdout)
        self.base, self.base_format = info["full-backing-filename"], info.get("backing-filename-format", "raw")
        self.size = str(info["virtual-size"])


def server_body(image, flavor, name):
    return {"server": {"name": name, "imageRef": image, "flavorRef": flavor, "networks": "auto"}}


def delete(client, identifier):
    client.compute("DELETE", f"/servers/{identifier}")
    wait_for(lambda: client.find(identifier) is None, 60, f"server {identifier} to be deleted")


def launch(client, starts, body):
    """Milliseconds from the POST to the STARTED event, and to ACTIVE in the API."""
    began = time.monotonic()
    identifier = client.compute("POST", "/servers", body)["server"]["id"]
    started = starts.wait(identifier)
    while True:
        server = client.find(identifier)
        if server["status"] == "ACTIVE":
            break
        if server["status"] == "ERROR":
            raise RuntimeError(f"server {identifier}: {server.get('fault')}")
        time.sleep(0.005)
    return identifier, (started - began) * 1000, (time.monotonic() - began) * 1000


def main():
    pairs = count(20)
    report = Report()
    with Apus("release") as host:
        host.start()
        client = host.client()
        image = host.upload_test_image()
        flavor = next(f["id"] for f in client.compute("GET", "/flavors/detail")["flavors"] if f["name"] == "m1.nano")
        starts = Starts("qemu:///system")
        # The first one fills the image cache and libvirt's probes, and gives the XML.
        warm, _, _ = launch(client, starts, server_body(image, flavor, "warm"))
        domain = starts.connection.lookupByUUIDString(warm)
        template = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        source = os.path.join(host.state, "instances", warm)
        if not re.search(re.escape(source) + "/", template):
            raise RuntimeError(f"the domain's files are not below {source}")
        kept = os.path.join(host.folder, "template")
        shutil.copytree(source, kept)
        folder = os.path.join(host.folder, "raw")
        os.mkdir(folder, 0o755)
        raw = Raw(starts, template.replace(source, kept), folder)
        raw.learn(kept)
        delete(client, warm)
        raw.launch()
        apus, active, plain = [], [], []
        for index in range(pairs):
            first, second = (0, 1) if index % 2 == 0 else (1, 0)
            for side in (first, second):
                if side == 0:
                    identifier, to_start, to_active = launch(client, starts, server_body(image, flavor, f"bench-{index}"))
                    apus.append(to_start)
                    active.append(to_active)
                    delete(client, identifier)
                else:
                    plain.append(raw.launch() * 1000)
        for share in (50, 95):
            report.add(f"launch.ratio.p{share}", percentile(apus, share) / percentile(plain, share), "1", n=pairs)
        report.add("launch.apus_ms.p50", percentile(apus, 50), "ms", n=pairs)
        report.add("launch.libvirt_ms.p50", percentile(plain, 50), "ms", n=pairs)
        report.add("launch.apus_ms.p95", percentile(apus, 95), "ms", n=pairs)
        report.add("launch.libvirt_ms.p95", percentile(plain, 95), "ms", n=pairs)
        report.add("launch.active_ms.p50", percentile(active, 50), "ms", n=pairs)
        starts.connection.close()
    report.finish()
    return 0


in_private_host(main)
