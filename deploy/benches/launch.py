"""Launch through Apus, side by side with qemu-img create + virDomainCreateXML of the same finished XML.

Both sides end at the domain's STARTED event on this program's own connection. They alternate, the image is warm, and each
guest is gone before the next begins.
"""

import json
import os
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
from apus_host import Apus, in_private_host, programs, test_image, wait_for  # noqa: E402
from report import Report, count, percentile  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
# After a deletion the host is left alone for as long as its clearing up takes.
REST_SECONDS = 0.5


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
    """The other side: an overlay and a transient domain of the XML and the files of a guest that Apus made."""

    def __init__(self, starts, domain, source, folder):
        self.starts, self.folder = starts, folder
        self.template = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.kept = os.path.join(folder, "template")
        if source + "/" not in self.template:
            raise RuntimeError(f"the domain's files are not below {source}")
        shutil.copytree(source, self.kept)
        self.source = source
        disk = next(d for d in ElementTree.fromstring(self.template).iter("disk") if d.get("device") != "cdrom")
        said = subprocess.run(
            ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", disk.find("source").get("file")], check=True,
            capture_output=True, text=True)
        info = json.loads(said.stdout)
        self.base = info["full-backing-filename"]
        self.base_format = info["backing-filename-format"]
        self.size = str(info["virtual-size"])

    def prepare(self):
        """Everything but the two measured calls: XML, config drive, folder."""
        identifier = str(uuid.uuid4())
        place = os.path.join(self.folder, identifier)
        os.mkdir(place, 0o711)
        tree = ElementTree.fromstring(self.template)
        tree.find("name").text = "bench-" + identifier[:8]
        tree.find("uuid").text = identifier
        for entry in tree.iter("entry"):
            if entry.get("name") in ("uuid", "serial"):
                entry.text = identifier
        for old in tree.findall("seclabel"):
            tree.remove(old)
        for element in tree.iter():
            for key, value in element.attrib.items():
                if value.startswith(self.source + "/"):
                    element.set(key, place + value[len(self.source):])
        for mac in tree.iter("mac"):
            mac.set("address", "52:54:00:" + ":".join(identifier[i:i + 2] for i in (0, 2, 4)))
        overlay = None
        for disk in tree.iter("disk"):
            path = disk.find("source").get("file")
            if disk.get("device") == "cdrom":
                shutil.copyfile(os.path.join(self.kept, os.path.basename(path)), path)
            else:
                overlay = path
        return identifier, place, overlay, ElementTree.tostring(tree, encoding="unicode")

    def launch(self):
        """Seconds from the first call to the STARTED event."""
        identifier, place, overlay, text = self.prepare()
        began = time.monotonic()
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", self.base_format, "-b", self.base, overlay, self.size],
            check=True)
        domain = self.starts.connection.createXML(text, 0)
        elapsed = self.starts.wait(identifier) - began
        domain.destroy()
        shutil.rmtree(place)
        return elapsed


def delete(client, identifier):
    client.compute("DELETE", f"/servers/{identifier}")
    wait_for(lambda: client.find(identifier) is None, 60, f"server {identifier} to be deleted", pause=0.02)


def launch(client, starts, name, image, flavor):
    """The server, and the seconds from the moment before the POST to the STARTED event and to ACTIVE in the API."""
    # A login between the two clocks would be measured with it.
    client.authenticate()
    began = time.monotonic()
    identifier = client.create(name, image, flavor)
    started = starts.wait(identifier)
    while True:
        server = client.find(identifier)
        if server["status"] == "ACTIVE":
            break
        if server["status"] == "ERROR":
            raise RuntimeError(f"server {identifier}: {server.get('fault')}")
        time.sleep(0.002)
    return identifier, started - began, time.monotonic() - began


def main():
    pairs = count(24)
    report = Report()
    with Apus(BINARIES) as host:
        host.start()
        client = host.client()
        image = host.upload_test_image()
        flavor = client.flavor("m1.micro")["id"]
        starts = Starts("qemu:///system")
        # The first one fills the image cache and libvirt's probes, and gives the XML.
        warm, _, _ = launch(client, starts, "warm", image, flavor)
        folder = os.path.join(host.folder, "raw")
        os.mkdir(folder, 0o711)
        raw = Raw(starts, starts.connection.lookupByUUIDString(warm), os.path.join(host.state, "instances", warm), folder)
        delete(client, warm)
        raw.launch()
        apus, active, plain = [], [], []
        for index in range(pairs):
            for side in ("apus", "raw") if index % 2 == 0 else ("raw", "apus"):
                time.sleep(REST_SECONDS)
                if side == "raw":
                    plain.append(raw.launch() * 1000)
                    continue
                identifier, to_start, to_active = launch(client, starts, f"bench-{index}", image, flavor)
                apus.append(to_start * 1000)
                active.append(to_active * 1000)
                delete(client, identifier)
        for share in (50, 95):
            report.add(f"launch.ratio.p{share}", percentile(apus, share) / percentile(plain, share), "1", n=pairs)
        for name, values in (("apus", apus), ("libvirt", plain), ("active", active)):
            report.add(f"launch.{name}_ms.p50", percentile(values, 50), "ms", n=pairs,
                       p95=round(percentile(values, 95), 1), least=round(min(values), 1))
        starts.connection.close()
        if os.environ.get("APUS_BENCH_LOG"):
            shutil.copyfile(host.log, os.environ["APUS_BENCH_LOG"])
    report.finish()
    return 0


def prepare():
    programs(BINARIES, "apus")
    test_image()


in_private_host(main, prepare)
