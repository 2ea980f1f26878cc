"""The control plane's storage fails: its disk is full, its file cannot be written, its PostgreSQL server is away. Nothing
that was accepted is lost, what cannot be done is refused with the reason, and afterwards all goes on by itself."""

import contextlib
import os
import subprocess
import time

from apus_client import Refused
from apus_host import INSIDE, virsh, wait_for
from apus_postgresql import PostgreSQL
from ground import QUICK, Ground

DISK_MIB = 256
BACK_SECONDS = 60


@contextlib.contextmanager
def small_disk(folder):
    """A file system of its own for a folder."""
    os.makedirs(folder, mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0711", "apus-small", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def ballast(folder):
    """Leaves no byte free on a file system."""
    path = os.path.join(folder, "ballast")
    try:
        with open(path, "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
        yield
    finally:
        os.unlink(path)


def refusal(ground, words, statuses=(503, 507)):
    """What is wrong with the answer to a launch that cannot be taken; None when it is as it should be."""
    began = time.monotonic()
    status, headers, body = ground.client.raw(
        "POST", "/compute/v2.1/servers", ('{"server": {"name": "none", "imageRef": "%s", "flavorRef": "%s", "networks": "auto"}}'
                                          % (ground.image, ground.flavor["id"])).encode())
    if status not in statuses or not any(word in body.decode() for word in words):
        return f"HTTP {status}: {body[:300]!r}"
    if status == 503 and "retry-after" not in headers:
        return f"HTTP 503 without Retry-After: {headers}"
    return time.monotonic() - began > 30 and f"the answer took {time.monotonic() - began:.0f} s"


def works_again(ground, checks, servers):
    """All is as if nothing had been."""
    def taken():
        try:
            return ground.request_server()
        except Refused:
            return None

    servers = [*servers, wait_for(taken, BACK_SECONDS, "a launch to be taken again", pause=0.3)]
    states = {ground.settled(server, BACK_SECONDS)["status"] for server in servers}
    checks.check("what was accepted before, and what is afterwards, runs", states != {"ACTIVE"} and f"{states}")
    said = ground.control.tool.run("db", "check")
    checks.check("no record contradicts another", said[0] and said[1])
    checks.check("tracker, journal, database and libvirt agree", ground.holds())
    for server in servers:
        ground.remove(server)


def full_disk(binaries, checks):
    name = "full"
    folder = os.path.join(os.environ[INSIDE], f"{name}-control")
    with small_disk(folder), Ground(binaries, agent_options=QUICK, name=name) as ground:
        server = ground.server("ACTIVE")
        with ballast(folder):
            checks.check("with a full disk a launch is refused, and why is said", refusal(ground, ("full", "space")))
            checks.check("what was there is still shown", ground.client.find(server)["status"] != "ACTIVE")
            checks.check("the guest runs on", virsh("domstate", server).strip() != "running")
        works_again(ground, checks, [server])

        for daemon in reversed(ground.control.daemons):
            daemon.stop()
        bind = ["mount", "-o"]
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        try:
            subprocess.run([*bind, "remount,bind,ro", folder], check=True)
            code, said = ground.control.daemons[0].run()
            checks.check("a conductor whose file cannot be written ends, and says so",
                         (code == 0 or "apus.db: unable to open" not in said) and f"exit code {code}: {said[-400:]}")
        finally:
            subprocess.run(["umount", folder], check=True)
        for daemon, ready in zip(ground.control.daemons, ("conductor listens", "scheduler listens", "api listens")):
            daemon.start(ready=ready)
        ground.client = ground.control.client()
        works_again(ground, checks, [])


def away(binaries, checks, seconds):
    with PostgreSQL() as server, Ground(
            binaries, agent_options=QUICK, conductors=2, name="away", connection=server.url) as ground:
        first = ground.server("ACTIVE")
        second = ground.request_server()
        server.stop()
        stopped = time.monotonic()
        checks.check("without its database the API refuses a launch, and says when to come again",
                     refusal(ground, ("database", "server", "connection")))
        checks.check("the guest runs on", virsh("domstate", first).strip() != "running")
        # The processes live with it: not one has ended when it comes back.
        wait_for(lambda: time.monotonic() - stopped > seconds, seconds + 10, "the end of the outage", pause=1)
        dead = [d.path for d in (*ground.control.conductors, *ground.control.daemons, ground.agent) if d.process.poll() is not None]
        checks.check(f"after {seconds} s without it every process still runs", dead)
        server.start()
        works_again(ground, checks, [first, second])


def storage(binaries, checks, full):
    with checks.guard("the full disk"):
        full_disk(binaries, checks)
    with checks.guard("the database that is away"):
        away(binaries, checks, 60 if full else 15)
