#!/usr/bin/python3
"""Runs the real openstack client, command by command, against the cloud that the OS_* variables (or OS_CLOUD) name.

    client_checks.py --openstack PATH --image FILE [--image-format qcow2] [--flavor m1.nano] [--console TEXT]

Prints one line a check, `ok - …` or `not ok - …`, and at the end `N passed, N failed`. Everything that it makes is
named apus-check-… and removed again. An administrator's credentials are needed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

PREFIX = "apus-check-"


class Failed(Exception):
    pass


class Client:
    def __init__(self, program, environment):
        self.program, self.environment = program, environment

    def run(self, *arguments, form="json"):
        command = [self.program, *arguments] + (["-f", form] if form else [])
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise Failed(f"openstack {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-500:]}")
        if form != "json":
            return done.stdout
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, text, *arguments):
        """Runs a command that must fail, and say `text`."""
        try:
            self.run(*arguments, form=None)
        except Failed as error:
            need(text.lower() in str(error).lower(), f"the refusal does not say '{text}': {error}")
        else:
            raise Failed(f"openstack {' '.join(arguments)} was not refused")


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, body):
        began = time.monotonic()
        try:
            body()
        except (Failed, KeyError, IndexError, TypeError, ValueError, subprocess.TimeoutExpired) as error:
            self.failed += 1
            print(f"not ok - {name}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
        else:
            self.passed += 1
            print(f"ok - {name} ({time.monotonic() - began:.1f} s)", flush=True)


def need(condition, problem):
    if not condition:
        raise Failed(problem)


def equal(found, wanted):
    need(found == wanted, f"found {found!r}, wanted {wanted!r}")


def names(rows):
    return [row["Name"] for row in rows]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()


class Checks:
    def __init__(self, options, client, folder):
        self.options, self.client, self.folder = options, client, folder
        self.report = Report()
        self.image, self.flavor, self.key = PREFIX + "image", PREFIX + "flavor", PREFIX + "key"
        self.server = PREFIX + "server"

    def step(self, name, body):
        self.report.check(name, body)

    def run(self, *arguments, form="json"):
        return self.client.run(*arguments, form=form)

    def wait(self, name, status):
        for _ in range(120):
            shown = self.run("server", "show", name)
            if shown["status"] == status and shown["OS-EXT-STS:task_state"] is None:
                return shown
            need(shown["status"] != "ERROR", f"ERROR: {shown.get('fault')}")
            time.sleep(1)
        raise Failed(f"{name} is not {status} after 120 tries")

    # Identity and versions

    def identity(self):
        self.step("versions show names the compute API", lambda: need(
            any(row["Service Type"] == "compute" and row["Version"].startswith("2.1") or row["Max Microversion"]
                for row in self.run("versions", "show")), "no compute version"))
        self.step("token issue", lambda: need(self.run("token", "issue")["id"], "no token"))
        self.step("catalog list", lambda: need(
            {row["Type"] for row in self.run("catalog", "list")} >= {"identity", "compute", "image"}, "services lack"))
        self.step("endpoint list", lambda: need(len(self.run("endpoint", "list")) >= 3, "too few"))
        self.step("project list", lambda: need("admin" in names(self.run("project", "list")), "admin lacks"))
        self.step("a wrong password is refused", lambda: self.client.refused(
            "401", "--os-auth-type", "password", "--os-password", "wrong", "token", "issue")
            if "OS_PASSWORD" in self.client.environment else None)

    # Images

    def images(self):
        image, options = self.image, self.options
        self.step("image create --file", lambda: equal(
            self.run("image", "create", image, "--file", options.image, "--disk-format", options.image_format,
                     "--container-format", "bare", "--property", "color=red", "--tag", "blue")["status"], "active"))
        self.step("image list", lambda: need(image in names(self.run("image", "list")), "it lacks"))
        self.step("image list --name --long", lambda: equal(
            names(self.run("image", "list", "--name", image, "--long")), [image]))
        self.step("image list --property", lambda: equal(
            names(self.run("image", "list", "--property", "color=red")), [image]))
        self.step("image list --tag --limit", lambda: equal(
            names(self.run("image", "list", "--tag", "blue", "--limit", "1")), [image]))

        def show():
            shown = self.run("image", "show", image)
            equal(shown["size"], os.path.getsize(options.image))
            equal(shown["properties"]["color"], "red")
            equal(shown["tags"], ["blue"])
            equal(shown["properties"]["os_hash_algo"], "sha512")

        self.step("image show", show)

        def save():
            copy = os.path.join(self.folder, "saved")
            self.run("image", "save", image, "--file", copy, form=None)
            equal(digest(copy), digest(options.image))

        self.step("image save gives the bytes back", save)

        def change():
            self.run("image", "set", image, "--property", "size_class=small", "--min-ram", "1", "--tag", "green", form=None)
            shown = self.run("image", "show", image)
            equal((shown["properties"]["size_class"], shown["min_ram"]), ("small", 1))
            need("green" in shown["tags"], "the tag lacks")
            self.run("image", "unset", image, "--property", "size_class", "--tag", "green", form=None)
            shown = self.run("image", "show", image)
            need("size_class" not in shown["properties"] and "green" not in shown["tags"], "they are still there")

        self.step("image set and unset", change)

        def protect():
            self.run("image", "set", image, "--protected", form=None)
            self.client.refused("403", "image", "delete", image)
            self.run("image", "set", image, "--unprotected", form=None)

        self.step("a protected image is not deleted", protect)

        def lie():
            path = os.path.join(self.folder, "lie")
            with open(path, "wb") as file:
                file.write(b"QFI\xfb\x00\x00\x00\x03" + bytes(4096))
            self.client.refused("qcow", "image", "create", PREFIX + "lie", "--file", path, "--disk-format", "raw",
                                "--container-format", "bare")
            for row in self.run("image", "list", "--name", PREFIX + "lie"):
                self.run("image", "delete", row["ID"], form=None)

        self.step("an image that is not what it claims is refused", lie)
        self.step("an unknown image is not found", lambda: self.client.refused(
            "no image", "image", "show", PREFIX + "nothing"))

    # Flavors, key pairs, limits, hosts

    def offers(self):
        flavor, key = self.flavor, self.key
        self.step("flavor list", lambda: need(self.options.flavor in names(self.run("flavor", "list")), "it lacks"))

        def create():
            made = self.run("flavor", "create", flavor, "--ram", "64", "--disk", "1", "--vcpus", "1", "--swap", "16",
                            "--description", "for a check", "--property", "hw:mem_page_size=small")
            equal((made["ram"], made["swap"], made["description"]), (64, 16, "for a check"))
            equal(self.run("flavor", "show", flavor)["properties"], {"hw:mem_page_size": "small"})

        self.step("flavor create and show", create)

        def change():
            self.run("flavor", "set", flavor, "--property", "a:b=c", "--description", "else", form=None)
            shown = self.run("flavor", "show", flavor)
            equal((shown["properties"]["a:b"], shown["description"]), ("c", "else"))
            self.run("flavor", "unset", flavor, "--property", "a:b", form=None)
            need("a:b" not in self.run("flavor", "show", flavor)["properties"], "it is still there")

        self.step("flavor set and unset", change)

        def private():
            name, project = flavor + "-own", self.run("project", "list")[0]
            self.run("flavor", "create", name, "--ram", "64", "--disk", "1", "--vcpus", "1", "--private", form=None)
            try:
                self.run("flavor", "set", name, "--project", project["ID"], form=None)
                equal(self.run("flavor", "show", name)["access_project_ids"], [project["ID"]])
                self.client.refused("409", "flavor", "set", name, "--project", project["ID"])
                self.run("flavor", "unset", name, "--project", project["ID"], form=None)
                equal(self.run("flavor", "show", name)["access_project_ids"], [])
            finally:
                self.run("flavor", "delete", name, form=None)

        self.step("flavor create --private, set and unset --project", private)
        self.step("a flavor's name is taken once", lambda: self.client.refused(
            "409", "flavor", "create", flavor, "--ram", "64", "--disk", "1", "--vcpus", "1"))
        self.step("flavor delete", lambda: self.run("flavor", "delete", flavor, form=None))
        self.step("an unknown flavor is not found", lambda: self.client.refused(
            "no flavor", "flavor", "show", flavor))

        self.step("keypair create makes a key", lambda: need(
            "PRIVATE KEY" in self.run("keypair", "create", "--type", "ssh", key, form=None)
            or self.run("keypair", "show", key), "no key"))
        self.step("keypair list and show", lambda: (
            need(key in names(self.run("keypair", "list")), "it lacks"),
            need(self.run("keypair", "show", key)["fingerprint"].count(":") == 15, "no MD5 fingerprint")))

        def imported():
            public = self.run("keypair", "show", "--public-key", key, form=None)
            path = os.path.join(self.folder, "key.pub")
            with open(path, "w", encoding="utf-8") as file:
                file.write(public)
            made = self.run("keypair", "create", "--public-key", path, key + "-2")
            equal(made["fingerprint"], self.run("keypair", "show", key)["fingerprint"])
            self.run("keypair", "delete", key + "-2", form=None)

        self.step("keypair create --public-key imports", imported)
        self.step("a key pair's name is taken once", lambda: self.client.refused("409", "keypair", "create", key))
        self.step("limits show --absolute", lambda: need(
            any(row["Name"] == "total_instances_used" or row["Name"] == "instances_used"
                for row in self.run("limits", "show", "--absolute")), "instances lack"))
        self.step("availability zone list", lambda: need(
            {"Zone Name": "nova", "Zone Status": "available"} in self.run("availability", "zone", "list"), "nova lacks"))
        self.step("extension list", lambda: need(
            self.run("extension", "list", "--compute"), "empty"))
        self.hosts()

    def hosts(self):
        self.step("hypervisor list", lambda: need(
            all(row["State"] in ("up", "down") for row in self.run("hypervisor", "list")), "a state lacks"))
        # From 2.88 on the client does not show the figures, whatever the answer has.
        figures = ["--os-compute-api-version", "2.87"]
        self.step("hypervisor list --long at 2.87", lambda: need(
            all(row["vCPUs"] > 0 for row in self.run(*figures, "hypervisor", "list", "--long")), "vcpus lack"))
        self.step("hypervisor show at 2.87", lambda: need(
            self.run(*figures, "hypervisor", "show", self.run("hypervisor", "list")[0]["Hypervisor Hostname"])["memory_mb"]
            > 0, "no memory"))
        self.step("hypervisor show", lambda: equal(
            self.run("hypervisor", "show", self.run("hypervisor", "list")[0]["Hypervisor Hostname"])["state"], "up"))
        self.step("hypervisor stats show", lambda: need(
            self.run("hypervisor", "stats", "show")["count"] >= 1, "none"))

        def services():
            rows = self.run("compute", "service", "list", "--service", "nova-compute")
            host = rows[0]["Host"]
            try:
                self.run("compute", "service", "set", host, "nova-compute", "--disable", "--disable-reason", "a check",
                         form=None)
                row = [row for row in self.run("compute", "service", "list", "--long") if row["Host"] == host
                       and row["Binary"] == "nova-compute"][0]
                equal((row["Status"], row["Disabled Reason"]), ("disabled", "a check"))
            finally:
                self.run("compute", "service", "set", host, "nova-compute", "--enable", form=None)
            equal(self.run("compute", "service", "list", "--host", host, "--service", "nova-compute")[0]["Status"],
                  "enabled")

        self.step("compute service set --disable and --enable", services)
        self.aggregates()
        self.groups()

    def aggregates(self):
        name, host = PREFIX + "aggregate", self.run("hypervisor", "list")[0]["Hypervisor Hostname"]

        def create():
            made = self.run("aggregate", "create", name, "--property", "ssd=true")
            equal((made["name"], made["properties"], made["availability_zone"]), (name, {"ssd": "true"}, None))

        def change():
            self.run("aggregate", "set", name, "--property", "rack=1", "--property", "row=2", form=None)
            self.run("aggregate", "unset", name, "--property", "rack", form=None)
            self.run("aggregate", "set", name, "--name", name + "-x", form=None)
            equal(self.run("aggregate", "show", name + "-x")["properties"], {"ssd": "true", "row": "2"})
            self.run("aggregate", "set", name + "-x", "--name", name, form=None)

        def hosts():
            self.run("aggregate", "add", "host", name, host)
            equal(self.run("aggregate", "show", name)["hosts"], [host])
            need(name in str(self.run("hypervisor", "show", host).get("aggregates")), "the hypervisor is in none")
            self.client.refused("409", "aggregate", "add", "host", name, host)
            self.client.refused("400", "aggregate", "delete", name)
            self.run("aggregate", "cache", "image", name, self.image, form=None)
            self.run("aggregate", "remove", "host", name, host)

        def zone():
            self.run("aggregate", "set", name, "--zone", PREFIX + "zone", form=None)
            equal(self.run("aggregate", "show", name)["availability_zone"], PREFIX + "zone")

        self.step("aggregate create --property", create)
        try:
            self.step("aggregate list --long", lambda: need(
                name in names(self.run("aggregate", "list", "--long")), "it lacks"))
            self.step("aggregate set, unset and show", change)
            self.step("aggregate add host and remove host", hosts)
            self.step("aggregate set --zone", zone)
            self.step("an aggregate's name is taken once", lambda: self.client.refused(
                "409", "aggregate", "create", name))
        finally:
            self.step("aggregate delete", lambda: self.run("aggregate", "delete", name, form=None))

    def groups(self):
        name = PREFIX + "group"

        def create():
            made = self.run("server", "group", "create", "--policy", "anti-affinity", "--rule", "max_server_per_host=2", name)
            equal((made["name"], made["policy"]), (name, "anti-affinity"))
            need("max_server_per_host" in str(made["rules"]), f"no rule: {made}")

        self.step("server group create --rule", create)
        self.step("server group list and show", lambda: (
            need(name in names(self.run("server", "group", "list")), "it lacks"),
            equal(self.run("server", "group", "show", name)["policy"], "anti-affinity")))
        self.step("server group delete", lambda: self.run("server", "group", "delete", name, form=None))
        self.step("an unknown server group is not found", lambda: self.client.refused(
            "group", "server", "group", "show", name))

    # Servers

    def servers(self):
        server, options = self.server, self.options
        base = ["--image", self.image, "--flavor", options.flavor]
        self.step("server create --wait", lambda: equal(
            self.run("server", "create", server, *base, "--key-name", self.key, "--property", "role=web", "--tag", "t1",
                     "--description", "a check", "--config-drive", "True", "--wait")["status"], "ACTIVE"))
        self.step("server list", lambda: need(
            (server, "ACTIVE", self.image, options.flavor) in [
                (row["Name"], row["Status"], row["Image"], row["Flavor"]) for row in self.run("server", "list")],
            "it lacks"))
        self.step("server list --long --all-projects", lambda: need(
            server in names(self.run("server", "list", "--long", "--all-projects")), "it lacks"))
        for flags, wanted in (
            (["--name", f"^{server}$"], 1), (["--status", "ACTIVE", "--name", server], 1), (["--status", "SHUTOFF"], 0),
            (["--tags", "t1"], 1), (["--not-tags", "t1", "--name", server], 0), (["--name", "nothing.*here"], 0),
            (["--flavor", options.flavor, "--name", server], 1), (["--limit", "1", "--name", server], 1),
        ):
            self.step(f"server list {' '.join(flags)}", lambda flags=flags, wanted=wanted: equal(
                len(self.run("server", "list", *flags)), wanted))

        def show():
            shown = self.run("server", "show", server)
            equal((shown["properties"], shown["tags"], shown["description"], shown["key_name"], shown["config_drive"]),
                  ({"role": "web"}, ["t1"], "a check", self.key, "True"))
            need(shown["OS-EXT-SRV-ATTR:host"], "no host")
            equal(shown["image"].split(" ")[0], self.image)

        self.step("server show", show)

        def console():
            for _ in range(60):
                output = self.run("console", "log", "show", server, form=None)
                if not options.console or options.console in output:
                    break
                time.sleep(1)
            need(not options.console or options.console in output, f"'{options.console}' is not on the console")
            need(len(self.run("console", "log", "show", "--lines", "2", server, form=None).strip().splitlines()) <= 3,
                 "more lines than asked")

        self.step("console log show", console)
        for action, status in (("stop", "SHUTOFF"), ("start", "ACTIVE")):
            self.step(f"server {action}", lambda action=action, status=status: (
                self.run("server", action, server, form=None), self.wait(server, status)))
        self.step("server start of a running one is refused", lambda: self.client.refused(
            "Cannot 'start'", "server", "start", server))
        for kind in ("--soft", "--hard"):
            self.step(f"server reboot {kind} --wait", lambda kind=kind: (
                self.run("server", "reboot", kind, "--wait", server, form=None), self.wait(server, "ACTIVE")))

        def change():
            self.run("server", "set", server, "--name", server + "-x", "--property", "more=1", "--tag", "t2",
                     "--description", "other", form=None)
            shown = self.run("server", "show", server + "-x")
            equal((shown["properties"], sorted(shown["tags"]), shown["description"]),
                  ({"role": "web", "more": "1"}, ["t1", "t2"], "other"))
            self.run("server", "unset", server + "-x", "--property", "more", "--tag", "t2", form=None)
            shown = self.run("server", "show", server + "-x")
            equal((shown["properties"], shown["tags"]), ({"role": "web"}, ["t1"]))
            self.run("server", "set", server + "-x", "--name", server, form=None)

        self.step("server set and unset", change)

        def locked():
            self.run("server", "lock", "--reason", "a check", server, form=None)
            equal(names(self.run("server", "list", "--locked")), [server])
            equal(self.run("server", "show", server)["locked_reason"], "a check")
            self.run("server", "unlock", server, form=None)

        self.step("server lock --reason, server list --locked", locked)
        self.step("server show --topology", lambda: equal(
            self.run("--os-compute-api-version", "2.78", "server", "show", "--topology", server)["topology"],
            {"nodes": [], "pagesize_kb": None}))

        def events():
            rows = self.run("server", "event", "list", server)
            equal({row["Action"] for row in rows}, {"create", "stop", "start", "reboot", "lock", "unlock"})
            create = [row for row in rows if row["Action"] == "create"][0]
            equal(self.run("server", "event", "show", server, create["Request ID"])["action"], "create")

        self.step("server event list and show", events)
        self.life()
        for version in ("2.1", "2.37", "2.53"):
            arguments = ["--os-compute-api-version", version]
            self.step(f"server show and list at {version}", lambda arguments=arguments: (
                equal(self.run(*arguments, "server", "show", server)["name"], server),
                need(server in names(self.run(*arguments, "server", "list")), "it lacks")))
        self.refusals(base)

        def several():
            self.run("server", "create", PREFIX + "many", *base, "--min", "2", "--max", "2", "--no-network", "--wait")
            wanted = [PREFIX + "many-1", PREFIX + "many-2"]
            equal(sorted(names(self.run("server", "list", "--name", PREFIX + "many"))), wanted)
            self.run("server", "delete", "--wait", *wanted, form=None)


        def named():
            host = self.run("hypervisor", "list")[0]["Hypervisor Hostname"]
            made = self.run("server", "create", PREFIX + "named", *base, "--host", host, "--hostname", "front.example.org",
                            "--no-network", "--wait")
            equal((made["OS-EXT-SRV-ATTR:host"], made["OS-EXT-SRV-ATTR:hostname"]), (host, "front.example.org"))
            self.run("server", "delete", "--wait", PREFIX + "named", form=None)

        self.step("server create --host --hostname", named)
        self.step("server create --max 2 --no-network", several)
        self.step("server delete --force --wait", lambda: (
            self.run("server", "create", PREFIX + "forced", *base, "--no-network", "--wait"),
            self.run("server", "delete", "--force", "--wait", PREFIX + "forced", form=None)))
        self.step("server delete --wait", lambda: self.run("server", "delete", "--wait", server, form=None))
        self.step("a deleted server is not found", lambda: self.client.refused("no server", "server", "show", server))

    def life(self):
        """What is done to a guest that runs."""
        server = self.server

        def act(action, status, *arguments):
            self.step(f"server {action}", lambda: (
                self.run("server", *action.split(), server, *arguments, form=None), self.wait(server, status)))

        act("pause", "PAUSED")
        self.step("server pause of a paused one is refused", lambda: self.client.refused(
            "Cannot 'pause'", "server", "pause", server))
        act("unpause", "ACTIVE")
        act("suspend", "SUSPENDED")
        act("resume", "ACTIVE")

        def lock():
            self.run("server", "lock", server, form=None)
            equal(self.run("server", "show", server)["locked"], True)
            self.run("server", "unlock", server, form=None)
            equal(self.run("server", "show", server)["locked"], False)

        self.step("server lock and unlock", lock)
        act("rescue", "RESCUE")
        self.step("server stop of a rescued one is refused", lambda: self.client.refused(
            "Cannot 'stop'", "server", "stop", server))
        act("unrescue", "ACTIVE")
        self.step("server rescue --image --password", lambda: (
            self.run("server", "rescue", "--image", self.image, "--password", "s3cret", server, form=None),
            self.wait(server, "RESCUE"), self.run("server", "unrescue", server, form=None),
            self.wait(server, "ACTIVE")))

        def rebuild():
            self.run("server", "rebuild", server, "--image", self.image, "--wait", "--property", "role=new",
                     "--description", "rebuilt", "--no-user-data", form=None)
            shown = self.wait(server, "ACTIVE")
            equal((shown["properties"], shown["description"]), ({"role": "new"}, "rebuilt"))

        self.step("server rebuild --wait", rebuild)

        def diagnostics():
            found = self.run("server", "show", server, "--diagnostics")
            equal((found["state"], found["driver"], found["num_cpus"]), ("running", "libvirt", 1))
            need(found["memory_details"]["maximum"] > 0 and len(found["disk_details"]) >= 1, f"found {found}")

        self.step("server show --diagnostics", diagnostics)
        self.step("server set --password of a guest without agent is refused", lambda: self.client.refused(
            "password", "server", "set", server, "--password", "n3w"))
        self.step("console url show says that there is no proxy", lambda: self.client.refused(
            "Unavailable console type", "console", "url", "show", server))
        self.step("server restore of a live one is refused", lambda: self.client.refused(
            "Cannot 'restore'", "server", "restore", server))
        self.step("server set --state", lambda: (
            self.run("server", "set", server, "--state", "error", "--auto-approve", form=None),
            equal(self.run("server", "show", server)["status"], "ERROR"),
            self.run("server", "set", server, "--state", "active", "--auto-approve", form=None), self.wait(server, "ACTIVE")))

        def snapshot():
            made = self.run("server", "image", "create", server, "--name", PREFIX + "copy", "--wait")
            equal(made["status"], "active")
            shown = self.run("image", "show", PREFIX + "copy")
            equal((shown["properties"]["image_type"], shown["disk_format"]), ("snapshot", "qcow2"))
            self.wait(server, "ACTIVE")
            self.run("server", "create", PREFIX + "from-copy", "--image", PREFIX + "copy", "--flavor",
                     self.options.flavor, "--no-network", "--wait")
            self.run("server", "delete", "--wait", PREFIX + "from-copy", form=None)

        self.step("server image create --wait, and a server of it", snapshot)

        def backups():
            for number in ("1", "2", "3"):
                self.run("server", "backup", "create", server, "--name", PREFIX + "backup-" + number, "--type", "daily",
                         "--rotate", "2", "--wait")
                self.wait(server, "ACTIVE")
            kept = [name for name in names(self.run("image", "list", "--property", "backup_type=daily"))]
            equal(sorted(kept), [PREFIX + "backup-2", PREFIX + "backup-3"])

        self.step("server backup create keeps as many as it is told", backups)

        def shelve():
            self.run("server", "shelve", "--wait", server, form=None)
            shown = self.wait(server, "SHELVED_OFFLOADED")
            need(shown["OS-EXT-SRV-ATTR:host"] is None, "it is still on a host")
            need(server + "-shelved" in names(self.run("image", "list")), "no image of it")
            self.run("server", "unshelve", "--wait", server, form=None)
            need(self.wait(server, "ACTIVE")["OS-EXT-SRV-ATTR:host"], "no host")
            need(server + "-shelved" not in names(self.run("image", "list")), "its image is still there")

        self.step("server shelve and unshelve --wait", shelve)

        def told():
            rows = self.run("server", "event", "list", server)
            done = {row["Action"] for row in rows}
            need(done >= {"pause", "unpause", "suspend", "resume", "lock", "unlock", "rescue", "unrescue", "rebuild",
                          "resetState", "shelve", "unshelve", "createImage", "createBackup"}, f"only {sorted(done)}")
            for row in rows:
                if row["Action"] in ("pause", "rescue", "rebuild", "lock"):
                    shown = self.run("server", "event", "show", server, row["Request ID"])
                    need(all(event["result"] == "Success" for event in shown["events"]) and shown["events"],
                         f"{row['Action']}: {shown['events']}")

        self.step("each is in the server's events, with its result", told)

    def refusals(self, base):
        name = PREFIX + "refused"
        for text, arguments in (
            ("no flavor", ["--image", self.image, "--flavor", "nothing"]),
            ("no image", ["--image", "nothing", "--flavor", self.options.flavor]),
            ("key_name", [*base, "--key-name", "nothing"]),
            ("network service", [*base, "--nic", "net-id=11111111-2222-4333-8444-555555555555"]),
            ("availability zone", [*base, "--availability-zone", "mars"]),
            ("volume service", ["--image", self.image, "--boot-from-volume", "1", "--flavor", self.options.flavor]),
        ):
            self.step(f"server create {' '.join(arguments[-2:])} is refused", lambda text=text, arguments=arguments:
                      self.client.refused(text, "server", "create", name, *arguments))
        self.step("nothing is left of refused servers", lambda: equal(self.run("server", "list", "--name", name), []))

    def cleanup(self):
        for kind, column in (("server", "ID"), ("image", "ID"), ("keypair", "Name"), ("flavor", "ID")):
            for row in self.run(kind, "list"):
                if row["Name"].startswith(PREFIX):
                    self.run(kind, "delete", row[column], form=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openstack", default="openstack", help="the client's program")
    parser.add_argument("--image", required=True, help="the file to upload")
    parser.add_argument("--image-format", default="qcow2")
    parser.add_argument("--flavor", default="m1.nano")
    parser.add_argument("--console", default="", help="a text that the guest prints")
    options = parser.parse_args()
    client = Client(options.openstack, dict(os.environ, PYTHONWARNINGS="ignore"))
    with tempfile.TemporaryDirectory(prefix="apus-check-") as folder:
        checks = Checks(options, client, folder)
        try:
            checks.identity()
            checks.images()
            checks.offers()
            checks.servers()
        finally:
            checks.step("image delete and keypair delete", checks.cleanup)
    print(f"{checks.report.passed} passed, {checks.report.failed} failed", flush=True)
    return 0 if checks.report.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
