"""Guests that are carried to another host while they run: how they are made, what they say, and what must hold of them."""

import base64
import contextlib
import glob
import json
import os
import re
import sqlite3
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree

from apus_client import Refused
from apus_host import INSIDE, forget_reservations, in_host, lab_hosts, wait_for
from moving import Hosts
from openstack_client import Quick

TICK_US = 200_000
LOOK_SECONDS = 1
# What a guest may miss while it is carried: the machine may be busy, and emulates the guest.
PAUSE_SECONDS = 5
CLEAR_SECONDS = 40
# What listens whether something moves or not: the screens of guests, and the metadata service once there is a guest.
USUAL_PORTS = {80, *range(5900, 6000)}
# The kernel's word for a socket that does.
LISTENING = "0A"


class Guest:
    """One server, and what its guest has said."""

    def __init__(self, live, identifier, name, wishes):
        self.live, self.id, self.name, self.wishes = live, identifier, name, wishes
        self.boot_id = self.drive = self.addresses = None

    def server(self):
        return self.live.client.find(self.id)

    def home(self):
        return self.server()["OS-EXT-SRV-ATTR:host"]

    def said(self, host=None):
        return self.live.hosts.console(host or self.home(), self.id)

    def tick(self, host=None):
        """The number of the last tick; 0 before the first."""
        found = re.findall(r"^tick (\d+)\r?$", self.said(host), re.M)
        return int(found[-1]) if found else 0

    def looks(self, host=None):
        """What came of the guest's own looks: [(number, disk, drive, metadata)]."""
        found = re.findall(r"look (\d+) disk (.+) drive (\w+) metadata (\S+) up", self.said(host))
        return [(int(number), disk, drive, metadata) for number, disk, drive, metadata in found]

    def ready(self):
        """Waits until it has looked at everything once, and keeps what must never change."""
        home = self.home()
        wait_for(lambda: self.tick(home), 90, f"the first tick of {self.name}", pause=0.2)
        if any(wish.startswith("look=") for wish in self.wishes):
            wait_for(lambda: any(look[3] == self.id for look in self.looks(home)), 90,
                     f"the first look of {self.name}", pause=0.2)
            self.drive = self.looks(home)[-1][2]
        if any(wish.startswith("dirty=") for wish in self.wishes):
            wait_for(lambda: "of memory again and again" in self.said(home), 90, f"{self.name} to write", pause=0.2)
        self.boot_id = re.search(r"boot id (\S+)", self.said(home))[1]
        self.addresses = self.live.addresses(self.server())
        return self

    def goes_on(self, host, seconds=90):
        """Waits for a tick on that host."""
        seen = self.tick(host)
        wait_for(lambda: self.tick(host) > seen, seconds, f"a tick of {self.name} on {host}", pause=0.1)

    def looked(self, host):
        """Waits until it has begun and ended a whole look there."""
        seen = max((look[0] for look in self.looks(host)), default=0)
        wait_for(lambda: self.looks(host) and self.looks(host)[-1][0] >= seen + 2, 90, f"a look of {self.name}", pause=0.2)

    def restarted(self, host):
        """What shows that the guest is not the one that was started; nothing when it is."""
        said = self.said(host)
        boots = re.findall(r"boot id (\S+)", said)
        if boots != [self.boot_id]:
            return f"boot ids {boots}, and {self.boot_id} at first"
        ticks = [int(number) for number in re.findall(r"^tick (\d+)\r?$", said, re.M)]
        # A line may be torn where the console goes from host to host; none may come twice or go back.
        back = [(one, other) for one, other in zip(ticks, ticks[1:]) if other <= one]
        return back and f"ticks go back: {back}"


class Watch:
    """Follows a guest's ticks, wherever they come from, and the hosts that run it."""

    def __init__(self, live, guest):
        self.live, self.guest = live, guest
        self.moments, self.doubles = [], []
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self._ticks), threading.Thread(target=self._runs)]

    def _ticks(self):
        last = 0
        paths = {self.live.console_path(host, self.guest.id) for host in self.live.names}
        while not self.is_over.wait(0.01):
            for path in paths:
                tick = last_tick(path)
                if tick > last:
                    last = tick
                    self.moments.append(time.monotonic())

    def _runs(self):
        while not self.is_over.wait(0.1):
            # On one host before and after it is seen on the other: then it is on both at once.
            for one in self.live.names:
                if not self.live.is_running(one, self.guest.id):
                    continue
                for other in self.live.names:
                    if other != one and self.live.is_running(other, self.guest.id) and self.live.is_running(
                            one, self.guest.id):
                        self.doubles.append((one, other))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def longest(self):
        """Seconds, beyond those from tick to tick; for ever without ticks."""
        gaps = [later - earlier for earlier, later in zip(self.moments, self.moments[1:])]
        return max(gaps) - TICK_US / 1e6 if gaps else float("inf")


def last_tick(path):
    """The last whole tick in a console's file; 0 without one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 2000))
            found = re.findall(rb"^tick (\d+)\r?\n", file.read(), re.M)
    except FileNotFoundError:
        return 0
    return int(found[-1]) if found else 0


class Live:
    """What all parts do with the cloud of two hosts."""

    def __init__(self, cloud, checks):
        self.cloud, self.checks, self.hosts = cloud, checks, Hosts(cloud, checks)
        self.client = self.hosts.client
        self.lab = lab_hosts()
        self.names = list(cloud.agents)
        self.guests, self.usual = [], {name: list(agent.options) for name, agent in cloud.agents.items()}
        self.before = {}

    @property
    def shared(self):
        return self.hosts.shared

    # Hosts.

    def settings(self, values=(), environment=None, hosts=None):
        """Starts agents anew, with these settings on top of the usual ones, and what they find around them."""
        if self.hosts.shared:
            values = [f"DEFAULT.instances_path={self.hosts.shared}", *values]
        for name in hosts or self.names:
            agent = self.cloud.agents[name]
            agent.stop()
            agent.options = self.usual[name] + [word for value in values for word in ("--set", value)]
            agent.start(ready="serving", environment=(environment or {}).get(name))
        self.cloud.wait_for_states(**{name: "up" for name in self.names})

    def share(self, is_shared):
        """Lets both hosts have their instances in one folder, or in one each again. No server may be there."""
        folder = scratch("shared") if is_shared else None
        self.hosts.shared = folder
        for name in self.names:
            self.cloud.agents[name].stop()
            # What was reserved for the other folder is another installation's for the agent.
            forget_reservations(lambda *words, host=name: self.tell(host, *words))
        self.settings()
        self.remember()

    def console_path(self, host, identifier):
        return os.path.join(self.hosts.folder(host), identifier, "console.log")

    def virsh(self, host, *arguments):
        """Exit code and what it printed; at once, without a look into the lab."""
        done = subprocess.run(
            ["virsh", "-q", "-c", self.lab[host]["uri"], *arguments], stdin=subprocess.DEVNULL, capture_output=True,
            text=True)
        return done.returncode, done.stdout.strip()

    def tell(self, host, *arguments):
        """The same for what has to succeed."""
        code, said = self.virsh(host, *arguments)
        if code != 0:
            raise RuntimeError(f"{host}: virsh {' '.join(arguments)}: {said}")
        return said

    def state(self, host, identifier):
        code, said = self.virsh(host, "domstate", identifier)
        return said if code == 0 else ""

    def is_running(self, host, identifier):
        return self.state(host, identifier) == "running"

    def is_carrying(self, host, identifier):
        """Whether libvirt is carrying the guest from this host."""
        code, said = self.virsh(host, "domjobinfo", identifier)
        return code == 0 and "Unbounded" in said

    @staticmethod
    def emulators(identifier):
        """The process ids of every QEMU on this machine that has the guest."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    words = file.read().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"qemu-system" in words[0] and identifier.encode() in words:
                found.append(int(path.split("/")[2]))
        return found

    def slow(self, host, megabits):
        """The link from a host carries no more than that; 0 for what it can."""
        rule = ["root", "tbf", "rate", f"{megabits}mbit", "burst", "256kb", "latency", "200ms"] if megabits else ["root"]
        command = in_host(host, "tc", "qdisc", "replace" if megabits else "del", "dev", "eth0", *rule)
        subprocess.run(command, check=bool(megabits), stderr=subprocess.DEVNULL if not megabits else None)

    # Servers.

    def launch(self, name, host="host1", flavor="m1.micro", wishes=()):
        """A server whose guest ticks, and does what else is wished; it has said so when this returns."""
        wishes = [f"tick-us={TICK_US}", *wishes]
        data = "".join(f"apus-{wish}\n" for wish in wishes)
        body = {"name": name, "imageRef": self.cloud.image, "flavorRef": self.client.flavor(flavor)["id"],
                "networks": "auto", "availability_zone": f"nova:{host}",
                "user_data": base64.b64encode(data.encode()).decode()}
        guest = Guest(self, self.client.compute("POST", "/servers", {"server": body})["server"]["id"], name, wishes)
        self.guests.append(guest)
        server = self.hosts.settled(guest.id)
        if server["status"] != "ACTIVE":
            raise RuntimeError(f"{server['status']}: {server.get('fault')}")
        guest.ready()
        return guest

    @staticmethod
    def addresses(server):
        return sorted((a["OS-EXT-IPS-MAC:mac_addr"], a["addr"]) for net in server["addresses"].values() for a in net)

    def act(self, guest, action, argument=None):
        self.client.act(guest.id, action, argument)

    def ask(self, guest, host=None, block="auto"):
        """Asks for a live migration."""
        self.act(guest, "os-migrateLive", {"host": host, "block_migration": block})

    def settled(self, guest, seconds=240):
        return self.hosts.settled(guest.id, seconds)

    def carried(self, guest, host=None, block="auto"):
        """Asks for a live migration and waits for its end; the server, which must be elsewhere then."""
        home = guest.home()
        self.ask(guest, host, block)
        server = self.settled(guest)
        if server["OS-EXT-SRV-ATTR:host"] == home:
            raise RuntimeError(f"it stays: {server['status']}, {self.migration(guest)}, {self.reason(guest)}")
        return server

    def migration(self, guest):
        """The last migration on record."""
        found = self.client.compute("GET", f"/os-migrations?instance_uuid={guest.id}")["migrations"]
        return max(found, key=lambda migration: migration["id"]) if found else None

    def status(self, guest):
        migration = self.migration(guest)
        return migration and migration["status"]

    def running(self, guest):
        """The live migration that is under way, with its bytes; None without one."""
        found = self.client.compute("GET", f"/servers/{guest.id}/migrations")["migrations"]
        return found[0] if found else None

    def reason(self, guest):
        """What the events of the last live migration say of why it failed."""
        actions = self.client.compute("GET", f"/servers/{guest.id}/os-instance-actions")["instanceActions"]
        action = next((a for a in actions if a["action"] == "live-migration"), None)
        if action is None:
            return None
        self.client.version, former = "compute 2.84", self.client.version
        try:
            path = f"/servers/{guest.id}/os-instance-actions/{action['request_id']}"
            events = self.client.compute("GET", path)["instanceAction"]["events"]
        finally:
            self.client.version = former
        return action.get("message"), [event.get("details") for event in events]

    def openstack(self, *arguments, form="json"):
        """The real client."""
        environment = dict(self.cloud.control.environment, PYTHONWARNINGS="ignore")
        command = [Quick.program, "--os-compute-api-version", "2.80", *arguments] + (["-f", form] if form else [])
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise RuntimeError(f"openstack {' '.join(arguments)}: {done.returncode}: {done.stderr.strip()[-600:]}")
        return json.loads(done.stdout) if form and done.stdout.strip() else done.stdout

    # What must hold.

    def remember(self):
        """What the hosts have and listen on before anything moves."""
        self.before = {host: (self.listening(host), self.sockets(host)) for host in self.names}

    def listening(self, host):
        """The TCP ports that something on a host listens on, but for the usual ones."""
        command = in_host(host, "cat", "/proc/net/tcp", "/proc/net/tcp6")
        rows = [line.split() for line in subprocess.run(
            command, check=True, capture_output=True, text=True).stdout.splitlines()]
        ports = {int(row[1].rsplit(":", 1)[1], 16) for row in rows if len(row) > 3 and row[3] == LISTENING}
        return ports - USUAL_PORTS

    def sockets(self, host):
        """The sockets in the agent's folders that have no server's name."""
        found = set()
        for folder, _, names in os.walk(self.cloud.agents[host].state):
            if not any(guest.id in folder for guest in self.guests):
                found.update(os.path.join(folder, name) for name in names if is_socket(os.path.join(folder, name)))
        return found

    def traces(self, host, identifier):
        """What a host still has of a server that is not on it."""
        state = self.state(host, identifier)
        found = [f"domain {state}"] if state else []
        for folder, folders, names in os.walk(self.cloud.agents[host].state):
            found += [os.path.join(folder, name) for name in (*folders, *names) if identifier in name]
        if self.reserved(host).get(identifier):
            found.append(f"addresses {self.reserved(host)[identifier]}")
        return found

    def reserved(self, host):
        """{server: {MAC: address}} of what the agent knows, which libvirt's network must have too."""
        found = {}
        for top in {self.hosts.folder(host), self.cloud.agents[host].state}:
            for path in glob.glob(os.path.join(top, "**", "_networks", "default"), recursive=True):
                with open(path, encoding="ascii") as file:
                    for mac, address, owner, *_ in (line.split() for line in file):
                        if owner != "-":
                            found.setdefault(owner, {})[mac] = address
        return found

    def on_network(self, host):
        """{MAC: address} that libvirt's network has reserved."""
        _, text = self.virsh(host, "net-dumpxml", "default")
        return {e.get("mac"): e.get("ip") for e in ElementTree.fromstring(text).iter("host") if e.get("mac")}

    def wrong(self):
        """What is not the same in the record, in the trackers and journals of both hosts, and in libvirt; None if all is."""
        servers = {guest.id: guest.server() for guest in self.guests}
        servers = {identifier: server for identifier, server in servers.items() if server}
        tasks = self.client.tasks()
        if tasks:
            return f"tasks {[(t['kind'], t['status'], t['step'], t['last_error']) for t in tasks]}"
        for host in self.names:
            problem = self.wrong_host(host, servers)
            if problem:
                return f"{host}: {problem}"
        return None

    def wrong_host(self, host, servers):
        # One in ERROR may have lost what it had.
        sure = {i for i, s in servers.items() if s["OS-EXT-SRV-ATTR:host"] == host and s["status"] != "ERROR"}
        maybe = {i for i, s in servers.items() if s["OS-EXT-SRV-ATTR:host"] == host} - sure
        told = self.client.apus("GET", f"/hosts/{host}?events=0")["host"]
        if told["claims_error"]:
            return told["claims_error"]
        now, stored = told["now"]["used"], told["report"]["used"]
        if now != stored:
            return f"the tracker has {now}, the database {stored}"
        for key, reserve in told["now"]["reserved"].items():
            held = sum(claim["resources"][key] for claim in told["claims"])
            if held + reserve != now[key]:
                return f"{key}: claims of {held}, {reserve} reserved, {now[key]} used: {told['claims']}"
        holders = sorted(claim["instance_id"] for claim in told["claims"])
        if sorted(i for i in holders if i not in maybe) != sorted(sure):
            return f"claims of {holders}, servers {sorted(sure)}, in ERROR {sorted(maybe)}"
        domains = set(self.virsh(host, "list", "--all", "--uuid")[1].split())
        if domains - maybe != sure:
            return f"domains {sorted(domains)}, servers {sorted(sure)}"
        if not self.shared:
            path = self.hosts.folder(host)
            names = os.listdir(path) if os.path.isdir(path) else []
            folders = {name for name in names if re.match(r"[0-9a-f]{8}-", name)}
            if folders - maybe != sure:
                return f"folders {sorted(folders)}, servers {sorted(sure)}"
        reserved = self.reserved(host)
        if not self.shared and set(reserved) - maybe != sure:
            return f"addresses of {sorted(reserved)}, servers {sorted(sure)}"
        network = self.on_network(host)
        for identifier in sure & set(reserved):
            shown = dict(self.addresses(servers[identifier]))
            if reserved[identifier] != shown or not shown.items() <= network.items():
                return f"addresses {shown} of {identifier}, here {reserved[identifier]}, on the network {network}"
        uri = f"file:{self.cloud.agents[host].state}/agent.db?mode=ro"
        with sqlite3.connect(uri, uri=True, isolation_level=None) as journal:
            under_way = journal.execute("SELECT kind FROM operations WHERE ended_at IS NULL").fetchall()
        if under_way:
            return f"operations under way {under_way}"
        ports, sockets = self.before.get(host, (self.listening(host), self.sockets(host)))
        more = (self.listening(host) - ports, self.sockets(host) - sockets)
        return f"still open: ports {more[0]}, sockets {more[1]}" if any(more) else None

    def agree(self, what):
        """A check that everything is right, soon."""
        try:
            wait_for(lambda: self.wrong() is None, CLEAR_SECONDS, "everything to be right", pause=0.2)
            problem = None
        except TimeoutError:
            problem = self.wrong() or "right only too late"
        return self.checks.check(f"{what}: record, trackers, journals and hypervisors agree", problem)

    def one(self, guest, host, status, what):
        """One guest, on that host, as the record says; the same as it ever was."""
        server = guest.server()
        seen = (server["status"], server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-SRV-ATTR:hypervisor_hostname"],
                [h for h in self.names if self.state(h, guest.id) in ("running", "paused")], len(self.emulators(guest.id)))
        node = next(h["hypervisor_hostname"] for h in self.client.hypervisors() if h["service"]["host"] == host)
        wanted = (status, host, node, [host], 1)
        self.checks.check(f"{what}: one guest, where the record says", seen != wanted and f"{seen}, not {wanted}; "
                          f"{server.get('fault')}, {self.migration(guest)}, {self.reason(guest)}")
        if status == "ACTIVE":
            guest.goes_on(host)
        self.checks.check(f"{what}: it was not started anew", guest.restarted(host))

        def elsewhere():
            look = self.state if self.shared else self.traces
            others = {other: look(other, guest.id) for other in self.names if other != host}
            return {other: found for other, found in others.items() if found}

        # The former host clears up after the server is ready on its new one.
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not elsewhere(), CLEAR_SECONDS, "the former host to clear up", pause=0.1)
        others = elsewhere()
        self.checks.check(f"{what}: nothing of it is elsewhere", others and f"{others}")
        self.agree(what)

    def same(self, guest, host, what):
        """The guest sees its disk, its config drive and the metadata as before, with its addresses."""
        guest.looked(host)
        number, *seen = guest.looks(host)[-1]
        self.checks.check(f"{what}: disk, config drive and metadata are what they were",
                          seen != ["good", guest.drive, guest.id] and f"look {number}: {seen}, and {guest.drive} at first")
        bad = [look for look in guest.looks(host) if look[1] != "good"]
        self.checks.check(f"{what}: no look found anything else on the disk", bad and f"{bad}")
        addresses = self.addresses(guest.server())
        self.checks.check(f"{what}: MAC and address are the same",
                          addresses != guest.addresses and f"{addresses}, and {guest.addresses} at first")

    def recorded(self, guest, source, destination, status, what):
        """The last migration on record, and the action."""
        last = self.migration(guest)
        keys = ("migration_type", "status", "source_compute", "dest_compute")
        seen = tuple(last[key] for key in keys) if last else None
        wanted = ("live-migration", status, source, destination)
        self.checks.check(f"{what}: the migration is on record", seen != wanted and f"{seen}, not {wanted}")
        actions = self.client.compute("GET", f"/servers/{guest.id}/os-instance-actions")["instanceActions"]
        names = [action["action"] for action in actions]
        self.checks.check(f"{what}: so is the action", "live-migration" not in names[:2] and f"{names}")

    def refused(self, guest, host=None, block="auto"):
        """Asks for what must not be done: the status of the answer, or what became of it where it was taken."""
        try:
            self.ask(guest, host, block)
        except Refused as refusal:
            return refusal.status
        self.settled(guest)
        return self.status(guest)

    def clear(self):
        """Removes the servers of a part; nothing may be left of them."""
        for guest in self.guests:
            if guest.server():
                self.cloud.remove(guest.id)

        def left():
            found = {h: [t for guest in self.guests for t in self.traces(h, guest.id)] + self.hosts.claims(h)
                     for h in self.names}
            return {host: traces for host, traces in found.items() if traces}

        try:
            wait_for(lambda: not left(), 60, "the end", pause=0.3)
            problem = None
        except TimeoutError:
            problem = f"{left()}"
        running = [guest.id for guest in self.guests if self.emulators(guest.id)]
        self.checks.check("nothing is left on any host", problem or (running and f"QEMU of {running}"))
        self.agree("when all are gone")
        self.guests = []


def is_socket(path):
    try:
        return os.stat(path, follow_symlinks=False).st_mode & 0o170000 == 0o140000
    except FileNotFoundError:
        return False


def scratch(name):
    """A folder of the run that both hosts see."""
    path = os.path.join(os.environ[INSIDE], name)
    os.makedirs(path, mode=0o711, exist_ok=True)
    os.chmod(path, 0o711)
    return path
