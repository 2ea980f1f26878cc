"""What an audit of the host (update_available_resource) asks of libvirtd, by libvirtd's own record of the calls it got."""

import os
import re
import subprocess

from apus_host import wait_for
from guests import Guest

# Nothing else of the agent speaks with libvirtd by itself.
QUIET = (
    "DEFAULT.update_resources_interval=2", "DEFAULT.sync_power_state_interval=-1", "compute.metadata_service=no",
    "DEFAULT.instance_delete_interval=-1", "DEFAULT.running_deleted_instance_poll_interval=0",
    "image_cache.manager_interval=-1")
# The call that every audit makes first, and that nobody else makes.
FIRST = "NodeGetInfo"
AUDITS = 4
SECONDS = 90
# So many servers more than the first.
MORE = 4
# What tells of all domains at once.
BULK = {"ConnectGetAllDomainStats", "ConnectListAllDomains"}


class Calls:
    """The calls that libvirtd answers, from now to the end of the block, in order."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "libvirtd-calls.log")

    def __enter__(self):
        self.outputs, self.filters = admin("daemon-log-outputs"), admin("daemon-log-filters")
        open(self.path, "wb").close()
        admin("daemon-log-filters", "1:daemon.remote")
        admin("daemon-log-outputs", f"{self.outputs} 1:file:{self.path}".strip())
        return self

    def __exit__(self, *_):
        admin("daemon-log-outputs", self.outputs)
        admin("daemon-log-filters", self.filters)
        os.unlink(self.path)

    def read(self):
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return re.findall(r" debug : remoteDispatch(\w+?)(?:Helper)?:\d+ : ", file.read())

    def audits(self, count):
        """The calls of so many whole audits in a row that begin from now on, each a sorted list."""
        # What was taken of the spare addresses is filled up by and by.
        wait_for(lambda: not any("Network" in name for name in self.whole(2)[-1]), SECONDS, "the addresses to be kept")
        return self.whole(count)

    def whole(self, count):
        before = len(self.read())

        def whole():
            said = self.read()[before:]
            starts = [index for index, name in enumerate(said) if name == FIRST]
            return len(starts) > count and [sorted(said[first:next]) for first, next in zip(starts, starts[1:])][:count]

        return wait_for(whole, SECONDS, f"{count} audits", pause=0.3)


def admin(command, value=None):
    """What a logging setting of libvirtd is, or sets it."""
    words = [] if value is None else [f"--{command.rsplit('-', 1)[1]}", value]
    said = subprocess.run(
        ["virt-admin", "-q", "-c", "libvirtd:///system", command, *words], check=True, capture_output=True, text=True)
    return re.sub(r"^\s*Logging \w+:", "", said.stdout).strip()


def run(cloud, checks):
    usual, guests = list(cloud.agent.options), []
    cloud.agent.options += [word for setting in QUIET for word in ("--set", setting)]
    cloud.restart_agent()
    try:
        with Calls(cloud.scratch) as calls:
            guests.append(Guest(cloud, "audited-0", cloud.image).ready())
            one = calls.audits(AUDITS)
            guests += [Guest(cloud, f"audited-{number + 1}", cloud.image) for number in range(MORE)]
            for guest in guests:
                guest.ready()
            many = calls.audits(AUDITS)
        checks.check(
            f"an audit asks libvirtd as much of {1 + MORE} servers as of one ({len(one[0])} calls)",
            (one[0] != many[0] or any(calls != one[0] for calls in [*one, *many])) and f"{one} of one, then {many}")
        about = [name for name in many[0] if "Domain" in name]
        checks.check(
            "it makes one call for all domains at most", (len(about) > 1 or not set(about) <= BULK) and f"{about}")
    finally:
        for guest in guests:
            guest.remove()
        cloud.agent.options = usual
        cloud.restart_agent()
