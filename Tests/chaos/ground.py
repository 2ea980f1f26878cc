"""One cloud with one host for many rounds, and what must hold on it: everything is as the API says, and nothing else."""

import contextlib
import json
import os
import sqlite3
import subprocess
import threading

from apus_client import Refused
from apus_daemons import Agent, ControlPlane
from apus_host import INSIDE, OVERHEAD_MIB, HostView, revive, test_image, virsh, wait_for
from operations import STATES

SETTLE_SECONDS = 60
USED = ("vcpus_used", "memory_mb_used", "local_gb_used")
# As many addresses as the agent keeps reserved ahead.
SPARES = 32
# What libvirt says of a server's domain, by the server's status; None for a server that is on no host.
DOMAIN = {
    "ACTIVE": "running", "SHUTOFF": "shut off", "PAUSED": "paused", "SUSPENDED": "shut off", "RESCUE": "running",
    "SHELVED": "shut off", "SOFT_DELETED": "shut off", "SHELVED_OFFLOADED": None,
}
# What the API may say of the power state of a server whose domain is in such a state.
POWER = {"running": (1,), "paused": (3,), "shut off": (4, 6)}
TALKING = ("--with-agent",)
# No guest obeys in these rounds: none is waited for. What a failed removal left goes before it is looked for.
QUICK = (
    "DEFAULT.shutdown_timeout=1", "libvirt.wait_soft_reboot_seconds=1", "DEFAULT.instance_delete_interval=3",
    "DEFAULT.periodic_fuzzy_delay=1")


# As long as the API waits for an outcome, and a little.
ANSWER_SECONDS = 90
# A deletion can be taken back; for good goes what is deleted by force.
KEPT = ("DEFAULT.reclaim_instance_interval=86400",)


class Request:
    """One operation, asked for. Where the API answers with the outcome, the answer is waited for on the side."""

    def __init__(self, ground, operation, begun):
        self.server, self.error, self.thread = begun, None, None
        if operation.trigger is None:
            self.server = ground.request_server(operation.talks)
        elif not operation.waits:
            operation.trigger(ground.client, begun)
        else:
            # The connection of a client is one thread's.
            client = ground.control.client()
            self.thread = threading.Thread(target=self._ask, args=(operation.trigger, client))
            self.thread.start()
            wait_for(lambda: not self.thread.is_alive() or ground.client.tasks(begun), 20, "the request to be taken")

    def _ask(self, trigger, client):
        try:
            trigger(client, self.server)
        except Exception as error:  # noqa: BLE001 (whoever waits for the answer looks at it)
            self.error = error

    def answer(self):
        """The error that the request was answered with, if any."""
        if self.thread:
            self.thread.join(ANSWER_SECONDS)
            if self.thread.is_alive():
                raise TimeoutError(f"no answer in {ANSWER_SECONDS} s")
        return self.error


class Guardian(threading.Thread):
    """Starts libvirtd again when it has ended, as a service manager does: libvirt 9.0 crashes at times because QEMU died."""

    PID_FILE = "/run/libvirt/libvirtd.pid"

    def __init__(self):
        super().__init__(daemon=True)
        self.is_over = threading.Event()
        # Held by whoever has something to do while libvirtd is away.
        self.lock = threading.Lock()

    def run(self):
        while not self.is_over.wait(0.2):
            with self.lock:
                self.look()

    def look(self):
        try:
            with open(self.PID_FILE, encoding="ascii") as file:
                os.kill(int(file.read()), 0)
        except (OSError, ValueError):
            # One that cannot be started is every later round's finding.
            with contextlib.suppress(subprocess.CalledProcessError):
                revive("host1")

    def revive(self):
        """The same at once; returns when it answers."""
        with self.lock:
            revive("host1")

    def stop(self):
        self.is_over.set()
        self.join()


class Ground(HostView):
    def __init__(self, binaries, control_options=KEPT, agent_options=QUICK, conductors=1, name="ground",
                 connection=None, clocks=()):
        self.control = ControlPlane(
            binaries, name=f"{name}-control", options=control_options, conductors=conductors, connection=connection)
        for conductor, seconds in zip(self.control.conductors, clocks):
            conductor.set_clock(seconds)
        known = f"compute.conductors={','.join(self.control.conductor_urls)}"
        self.agent = Agent(self.control, name, options=[*agent_options, known])
        super().__init__(os.path.join(self.agent.state, "instances"), os.path.join(self.control.state, "images"))
        self.scratch = os.environ[INSIDE]
        self.made = 0
        self.talking_image = None
        self.usual_files = None
        # Servers whose QEMU was killed.
        self.killed = set()

    def __enter__(self):
        self.foreign = set(self.reservations())
        self.guardian = Guardian()
        self.guardian.start()
        try:
            self.control.start()
            self.agent.enroll()
            self.agent.start(ready="serving")
            self.client = self.control.client()
            wait_for(lambda: any(h["state"] == "up" for h in self.client.hypervisors()), SETTLE_SECONDS, "a host that is up")
            self.image = self.client.make_image("guest", test_image())
            self.flavor = self.client.compute(
                "POST", "/flavors", {"flavor": {"name": "chaos", "ram": 128, "vcpus": 1, "disk": 1}})["flavor"]
            self.before = self.totals()
            # The first launch fills the cache, and says which files a server has.
            first = self.server("ACTIVE")
            self.usual_files = self.files(first)
            self.remove(first)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.guardian.stop()
        self.agent.stop()
        self.control.stop()
        # The private host has more such clouds one after another, on one network.
        self.forget_reservations(self.foreign)

    def step_lists(self):
        """{kind: [step]} of the agent's operations."""
        said = subprocess.run([self.agent.path, "--list-steps"], check=True, capture_output=True, text=True).stdout
        return {row["kind"]: row["steps"] for row in map(json.loads, said.splitlines())}

    def restart_agent(self, **environment):
        """Ends the agent if it runs, and starts one that finds `environment` around it."""
        self.agent.stop()
        self.agent.start(ready="serving", environment=environment)

    def tail(self):
        return "\n".join(f"{daemon.log}:\n{daemon.tail(12)}" for daemon in (self.agent, self.control.daemons[0]))

    # Servers.

    def request_server(self, talks=False):
        """Asks for a server; with `talks` its guest has a guest agent."""
        if talks and not self.talking_image:
            self.talking_image = self.client.make_image(
                "talking", test_image(*TALKING), hw_qemu_guest_agent="yes")
        self.made += 1
        image = self.talking_image if talks else self.image
        return self.client.create(f"chaos-{self.made}", image, self.flavor["id"])

    def begin(self, operation):
        """A server as the operation needs it; None for a launch."""
        return self.server(operation.needs, operation.talks, operation.booted) if operation.needs else None

    def server(self, status, talks=False, booted=False):
        """A new server in that status; its id. With `talks` its guest agent is waited for, with `booted` its kernel."""
        if status == "ACTIVE":
            identifier = self.request_server(talks)
        else:
            before, name, argument = STATES[status]
            identifier = self.server(before, talks, booted)
            if name:
                self.client.act(identifier, name, argument)
            else:
                self.client.compute("DELETE", f"/servers/{identifier}")
        found = self.settled(identifier)
        if found["status"] != status:
            raise RuntimeError(f"the server to begin with is {found['status']} and not {status}: {found.get('fault')}")
        if talks and status == "ACTIVE":
            wait_for(lambda: "agent runs" in self.console(identifier), SETTLE_SECONDS, "the guest's agent", pause=0.3)
        if booted and status == "ACTIVE":
            wait_for(lambda: "tick 1" in self.console(identifier), SETTLE_SECONDS, "the guest's first tick", pause=0.3)
        return identifier

    def console(self, identifier):
        return self.client.act(identifier, "os-getConsoleOutput", {})["output"]

    def settled(self, identifier, seconds=SETTLE_SECONDS):
        """The server once nothing is under way on it; {"status": "gone"} without one. TimeoutError says what is."""
        def probe():
            server = self.client.find(identifier) or {"status": "gone", "OS-EXT-STS:task_state": None}
            if server["OS-EXT-STS:task_state"] is not None or server["status"] == "BUILD":
                return None
            return None if self.client.tasks(identifier) else server

        try:
            return wait_for(probe, seconds, "nothing to be under way", pause=0.05)
        except TimeoutError as error:
            shown = self.client.find(identifier) or {}
            state = {key: shown.get(key) for key in ("status", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state")}
            raise TimeoutError(f"{error}; {state}; {self.client.tasks(identifier)}\n{self.tail()}") from None

    def remove(self, identifier):
        """Deletes a server, whatever it is in."""
        try:
            self.client.act(identifier, "forceDelete", None)
        except Refused as refused:
            if refused.status != 404:
                raise
        found = self.settled(identifier)
        if found["status"] != "gone":
            raise RuntimeError(f"the deleted server is {found['status']}: {found.get('fault')}")

    # What must hold.

    def totals(self):
        host = self.client.hypervisors()[0]
        return {key: host[key] for key in USED}

    def wrong(self):
        """What the host holds and should not, or should and does not; None when all is right."""
        try:
            return self.wrong_things()
        except subprocess.CalledProcessError as error:
            return f"{' '.join(error.cmd)}: {error.stderr}"

    def wrong_things(self):
        servers = {server["id"]: server for server in self.client.servers()}
        for identifier, server in servers.items():
            if server["OS-EXT-STS:task_state"] is not None or server["status"] not in {*DOMAIN, "ERROR"}:
                return f"{identifier} is {server['status']}, {server['OS-EXT-STS:task_state']}"
        domains = self.domains()
        return (
            self.wrong_domains(servers, domains) or self.wrong_files(servers, domains) or self.wrong_addresses(servers)
            or self.wrong_totals(servers, domains) or self.wrong_claims(servers, domains) or self.wrong_work())

    def is_here(self, server, domains):
        """Whether the host must have a server's things. One in ERROR has all of them, or nothing."""
        if server["status"] == "ERROR":
            return server["id"] in domains or bool(self.files(server["id"]))
        return DOMAIN[server["status"]] is not None

    def wrong_domains(self, servers, domains):
        expected = {i: DOMAIN[s["status"]] for i, s in servers.items() if s["status"] != "ERROR" and DOMAIN[s["status"]]}
        # A rescue is not over because its guest is off.
        for identifier in self.killed & set(domains):
            if servers.get(identifier, {}).get("status") == "RESCUE" and domains[identifier] == "shut off":
                expected[identifier] = "shut off"
        seen = {i: state for i, state in domains.items() if servers.get(i, {}).get("status") != "ERROR"}
        if seen != expected:
            return f"domains {domains}, expected {expected}"
        for identifier, state in domains.items():
            power = servers[identifier]["OS-EXT-STS:power_state"]
            if power not in POWER.get(state, ()):
                return f"{servers[identifier]['status']} {identifier} is {state}, on record with power state {power}"
        return None

    def wrong_files(self, servers, domains):
        expected = {identifier for identifier, server in servers.items() if self.is_here(server, domains)}
        if self.folders() != expected:
            return f"folders of {sorted(self.folders())}, servers {sorted(expected)}"
        usual = self.usual_files
        for identifier in expected:
            odd = self.files(identifier) ^ usual if usual else set()
            if servers[identifier]["status"] != "ACTIVE":
                # The log is made by the guest's first start.
                odd -= {"console.log"}
            # A rescued server has more, one in ERROR may be in the middle.
            if odd and servers[identifier]["status"] not in ("RESCUE", "ERROR"):
                return f"{servers[identifier]['status']} with the files {sorted(self.files(identifier))}, not {sorted(usual)}"
        left = self.unfinished_files()
        return f"unfinished files {left}" if left else None

    def wrong_addresses(self, servers):
        known = self.address_owners()
        reserved = {mac: ip for mac, ip in self.reservations().items() if mac not in self.foreign}
        # One that was made a moment before a kill may be on no record; the agent takes it for a spare.
        if not {mac: address for mac, (address, _) in known.items()}.items() <= reserved.items():
            return f"reservations {reserved}, on record {known}"
        owned = {}
        for mac, (address, owner) in known.items():
            if owner:
                owned.setdefault(owner, {})[mac] = address
        for identifier, server in servers.items():
            has = owned.pop(identifier, {})
            shown = {
                entry["OS-EXT-IPS-MAC:mac_addr"]: entry["addr"]
                for entries in server["addresses"].values() for entry in entries
            }
            if has != shown and server["status"] != "ERROR":
                return f"addresses {shown} of {identifier}, on record {has}"
        if owned:
            return f"addresses of nobody: {owned}"
        count = sum(1 for _, owner in known.values() if owner)
        if len(reserved) - count > 2 * SPARES:
            return f"{len(reserved) - count} spare addresses: {reserved}"
        return None

    def wrong_totals(self, servers, domains):
        here = sum(self.is_here(server, domains) for server in servers.values())
        # One whose rebuilding or removal failed after all was taken away keeps its place until it is rebuilt or deleted.
        empty = sum(
            server["status"] == "ERROR" and server["OS-EXT-SRV-ATTR:host"] is not None
            and not self.is_here(server, domains) for server in servers.values())
        used = self.totals()
        for key, each in zip(USED, (self.flavor["vcpus"], self.flavor["ram"] + OVERHEAD_MIB, self.flavor["disk"])):
            if used[key] - self.before[key] not in [each * count for count in range(here, here + empty + 1)]:
                return f"{key}: {used[key]} with {here} servers here, {self.before[key]} with none"
        return None

    def wrong_claims(self, servers, domains):
        """Tracker, journal and database: what each says of who holds what."""
        host = self.client.apus("GET", f"/hosts/{self.agent.name}?events=0")["host"]
        if host["claims_error"]:
            return host["claims_error"]
        now, stored = host["now"]["used"], host["report"]["used"]
        if now != stored:
            return f"the tracker has {now}, the database {stored}"
        for key, reserve in host["now"]["reserved"].items():
            held = sum(claim["resources"][key] for claim in host["claims"])
            if held + reserve != now[key]:
                return f"{key}: claims of {held}, {reserve} reserved, {now[key]} used: {host['claims']}"
        holders = {claim["instance_id"] for claim in host["claims"]}
        here = {identifier for identifier, server in servers.items() if self.is_here(server, domains)}
        # Of one in ERROR the place may be kept when its things are gone.
        odd = [i for i in holders ^ here if servers.get(i, {}).get("status") != "ERROR"]
        return f"claims of {sorted(holders)}, servers {sorted(here)}" if odd else None

    def wrong_work(self):
        tasks = self.client.tasks()
        if tasks:
            return f"unfinished tasks {[(t['kind'], t['status'], t['step'], t['last_error']) for t in tasks]}"
        uri = f"file:{self.agent.state}/agent.db?mode=ro"
        with sqlite3.connect(uri, uri=True, isolation_level=None) as journal:
            under_way = journal.execute("SELECT id FROM operations WHERE ended_at IS NULL").fetchall()
        if under_way:
            return f"operations under way {under_way}"
        images = self.client.image("GET", "/images")["images"]
        odd = [(i["name"], i["status"]) for i in images if i["status"] != "active"]
        return f"images {odd}" if odd else None

    def holds(self):
        """None once all is right; what is wrong when it is not in the time."""
        try:
            wait_for(lambda: self.wrong() is None, SETTLE_SECONDS / 2, "everything to be right", pause=0.1)
            return None
        except TimeoutError:
            return self.wrong() or "right only too late"

    @staticmethod
    def kill_libvirtd():
        """SIGKILLs it; returns when it is gone."""
        with open(Guardian.PID_FILE, encoding="ascii") as file:
            pid = int(file.read())
        os.kill(pid, 9)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}/root/"), 10, "libvirtd's end")

    def kill_qemu(self, identifier):
        """SIGKILLs a server's QEMU, if there is one."""
        name = virsh("domname", identifier).strip()
        with open(f"/run/libvirt/qemu/{name}.pid", encoding="ascii") as file:
            os.kill(int(file.read()), 9)
        self.killed.add(identifier)
