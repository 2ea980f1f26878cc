"""The other side of the benches: libvirt and qemu-img alone, and the events by which both sides are timed."""

import json
import os
import shutil
import subprocess
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree

import libvirt


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

    def start(self, prepared):
        """The two measured calls; the domain, and when it was started."""
        identifier, _, overlay, text = prepared
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", self.base_format, "-b", self.base, overlay, self.size],
            check=True)
        domain = self.starts.connection.createXML(text, 0)
        return domain, self.starts.wait(identifier)

    def launch(self):
        """Seconds from the first call to the STARTED event."""
        prepared = self.prepare()
        began = time.monotonic()
        domain, started = self.start(prepared)
        domain.destroy()
        shutil.rmtree(prepared[1])
        return started - began
