"""Looks at two hosts between which servers move."""

import json
import os
import re
import subprocess

from apus_host import in_host, wait_for


class Hosts:
    def __init__(self, cloud, checks):
        self.cloud, self.checks, self.client = cloud, checks, cloud.control.client()
        self.client.version = "compute 2.80"
        # The folder of all hosts' instances, where they share one.
        self.shared = None

    def folder(self, host):
        """Where a host has the folders of its instances."""
        agent = self.cloud.agents[host]
        return self.shared or getattr(agent, "instances", None) or os.path.join(agent.state, "instances")

    def disk(self, host, identifier, aside=False):
        return os.path.join(self.folder(host), identifier + ("_resize" if aside else ""), "disk")

    def image(self, path):
        """What qemu-img says of a disk that is in use or not."""
        done = subprocess.run(
            ["qemu-img", "info", "-U", "--output=json", "-f", "qcow2", path], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    def same(self, first, second):
        """What is not the same in two disks; nothing where they are."""
        done = subprocess.run(
            ["qemu-img", "compare", "-U", "-f", "qcow2", "-F", "qcow2", first, second], capture_output=True, text=True)
        # A larger disk that reads as zeros behind the other's end counts as the same.
        return done.returncode != 0 and done.stdout + done.stderr

    def keep(self, path, copy):
        """Copies what a disk reads as now."""
        subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "qcow2", path, copy], check=True)

    def console(self, host, identifier):
        path = os.path.join(self.folder(host), identifier, "console.log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def ticks(self, host, identifier):
        return len(re.findall(r"^tick \d+", self.console(host, identifier), re.M))

    def alive(self, host, identifier, seconds=90):
        """Waits until the guest's console goes on."""
        seen = self.ticks(host, identifier)
        wait_for(lambda: self.ticks(host, identifier) > seen, seconds, f"a tick of {identifier} on {host}", pause=0.2)

    def server(self, identifier):
        return self.client.find(identifier)

    def migrations(self, identifier):
        found = self.client.compute("GET", f"/os-migrations?instance_uuid={identifier}")["migrations"]
        return [(m["migration_type"], m["status"], m["source_compute"], m["dest_compute"]) for m in found]

    def states(self, host, identifier):
        """The state of the instance's domain: "" for none."""
        command = in_host(host, "virsh", "-q", "-c", "qemu:///system", "domstate", identifier)
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    def running(self, identifier):
        return [host for host in self.cloud.agents if self.states(host, identifier) == "running"]

    def left(self, host, identifier):
        """What a host still has of an instance."""
        folder = self.folder(host)
        names = [name for name in os.listdir(folder) if name.startswith(identifier)] if os.path.isdir(folder) else []
        state = self.states(host, identifier)
        return names + ([f"domain {state}"] if state else [])

    def claims(self, host):
        """The instances that hold something of a host, each as often as it does."""
        told = json.loads(self.cloud.control.cli("host", "show", host, "--json"))
        return sorted(claim["instance_id"] for claim in told["claims"])

    def settled(self, identifier, seconds=240):
        return self.cloud.settle(identifier, seconds)
