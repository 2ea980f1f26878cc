"""The real clients from PyPI, in an environment of their own below .build."""

import os
import subprocess
import sys
import venv

from apus_host import ROOT

ENVIRONMENT = os.path.join(ROOT, ".build", "openstack-client")
PACKAGES = ["python-openstackclient==10.5.0", "openstacksdk==4.22.0", "osc-placement==4.9.1"]
OPENSTACK = os.path.join(ENVIRONMENT, "bin", "openstack")
PYTHON = os.path.join(ENVIRONMENT, "bin", "python")


def install():
    """Installs the clients, unless these versions are there. Needs PyPI."""
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
