"""What the parts of the test share: the control plane, an agent on each host, and looks at both."""

import http.client
import json
import os
import ssl
import subprocess

from apus_daemons import Agent
from apus_host import in_host, is_uuid, wait_for

DOWN_SECONDS = 30


class Cloud:
    def __init__(self, control, checks, addresses):
        self.control, self.checks, self.addresses = control, checks, addresses
        self.client = control.client()
        self.agents = {
            name: Agent(control, name, name, address, options=["DEFAULT.report_interval=1"])
            for name, address in addresses.items()
        }
        self.image = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for agent in self.agents.values():
            agent.stop()

    def states(self):
        """{host: up or down} as hypervisors are listed."""
        return {h["service"]["host"]: h["state"] for h in self.client.hypervisors()}

    def wait_for_states(self, **wanted):
        wait_for(lambda: all(self.states().get(k) == v for k, v in wanted.items()), DOWN_SECONDS, f"{wanted}", pause=0.2)

    def settle(self, identifier, seconds=60):
        """The server, once nothing is under way on it; None when it is gone."""
        def settled():
            server = self.client.find(identifier)
            if server is None:
                return (None,)
            busy = server["OS-EXT-STS:task_state"] is not None or server["status"] == "BUILD"
            return False if busy else (server,)

        return wait_for(settled, seconds, f"server {identifier} to settle", pause=0.1)[0]

    def launch(self, name):
        return self.client.create(name, self.image, self.client.flavor("m1.micro")["id"])

    def remove(self, identifier):
        self.client.compute("DELETE", f"/servers/{identifier}")
        wait_for(lambda: self.client.find(identifier) is None, 60, "the server's end", pause=0.1)

    def virsh(self, host, *arguments):
        command = in_host(host, "virsh", "-q", "-c", "qemu:///system", *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def domains(self, host):
        return set(self.virsh(host, "list", "--uuid").split())

    def folders(self, host):
        path = os.path.join(self.agents[host].state, "instances")
        return {name for name in os.listdir(path) if is_uuid(name)} if os.path.isdir(path) else set()

    def wire(self, host, state):
        """Pulls the host's network cable, or plugs it in again."""
        subprocess.run(in_host(host, "ip", "link", "set", "eth0", state), check=True)

    def secret(self, host):
        with open(os.path.join(self.agents[host].state, "identity", "secret"), encoding="ascii") as file:
            return file.read().strip()

    def call(self, address, port, method, parameters, peer=None, secret=None):
        """One RPC with the given credential over TLS: the HTTP status and the error's kind, if there is one."""
        context = ssl.create_default_context(cadata=self.control.authority())
        connection = http.client.HTTPSConnection(address, port, timeout=10, context=context)
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "version": "1.0", "params": parameters}
        headers = {"Content-Type": "application/json"}
        if peer:
            headers.update({"X-Apus-Peer": peer, "Authorization": f"Bearer {secret}"})
        connection.request("POST", "/rpc", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        try:
            error = json.loads(text).get("error") or {}
        except ValueError:
            error = {}
        return answer.status, (error.get("data") or {}).get("kind")

    def heartbeat(self, host, secret, speaker=None):
        """Whether the conductor takes a heartbeat of `host` with the credential of `speaker`, and its answer."""
        beat = {"host": host, "binary": "nova-compute", "version": 1, "sequence": 1}
        status, kind = self.call(
            self.addresses["host1"], 8781, "conductor.heartbeat", beat, f"host:{speaker or host}", secret)
        return status == 200 and kind is None, f"{status} {kind}"
