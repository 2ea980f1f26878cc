"""The real clients from PyPI, in an environment of their own below .build."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import venv

from apus_host import ROOT, clean_environment, end

ENVIRONMENT = os.path.join(ROOT, ".build", "openstack-client")
PACKAGES = ["python-openstackclient==10.5.0", "openstacksdk==4.22.0", "osc-placement==4.9.1"]
OPENSTACK = os.path.join(ENVIRONMENT, "bin", "openstack")
PYTHON = os.path.join(ENVIRONMENT, "bin", "python")


def install():
    """Installs the clients, unless these versions are there. Needs PyPI."""
    os.makedirs(os.path.dirname(ENVIRONMENT), exist_ok=True)
    # Programs that begin at once must not install them over each other.
    with open(f"{ENVIRONMENT}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install_missing()


def install_missing():
    marker = os.path.join(ENVIRONMENT, "installed")
    wanted = " ".join(PACKAGES)
    if os.path.exists(marker):
        with open(marker, encoding="ascii") as file:
            if file.read() == wanted:
                return
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    subprocess.run(
        [os.path.join(ENVIRONMENT, "bin", "pip"), "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
    with open(marker, "w", encoding="ascii") as file:
        file.write(wanted)


class Quick:
    """The client, imported once for all commands; `program` is what to call. For the host that it is made in."""

    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openstack_quick")

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="apus-openstack-")
        self.process = None

    def __enter__(self):
        path = os.path.join(self.folder, "socket")
        server = os.path.join(os.path.dirname(self.program), "openstack_server.py")
        self.process = subprocess.Popen(
            [PYTHON, server, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=clean_environment())
        if self.process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise RuntimeError("the client's server does not start")
        os.environ["APUS_OPENSTACK_SOCKET"] = path
        return self

    def __exit__(self, *_):
        os.environ.pop("APUS_OPENSTACK_SOCKET", None)
        end(self.process, 10)
        self.process.stdout.close()
        shutil.rmtree(self.folder)
