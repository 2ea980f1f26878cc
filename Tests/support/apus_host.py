"""A private libvirt host (deploy/lab) with `apus up` in it, for benches and tests that look from outside."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

from apus_client import Client, read_clouds_yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.path.join(ROOT, "deploy", "lab")
INSIDE = "APUS_TEST_INSIDE"


def in_private_host(main, prepare=None):
    """Runs `main` inside a fresh private host, and takes that down whatever happened.

    `prepare` runs before, outside: a private host cannot reach other machines.
    """
    if os.environ.get(INSIDE):
        sys.exit(main())
    if prepare:
        prepare()
    folder = tempfile.mkdtemp(prefix="apus-host-")
    # QEMU, which is another user inside the host, must reach what lies below.
    os.chmod(folder, 0o711)
    lab = ["env", f"APUS_LAB={folder}/lab", LAB]
    code = 1
    # A terminal's Ctrl-C and a runner's SIGTERM must not leave the host behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        subprocess.run([*lab, "up", "1"], check=True, stdout=sys.stderr)
        code = subprocess.run(
            [*lab, "exec", "1", "env", f"{INSIDE}={folder}", sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
        ).returncode
    finally:
        subprocess.run([*lab, "down"], check=True, stdout=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def wait_for(probe, seconds, what, pause=0.05):
    """The first true value of `probe`."""
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not in {seconds} s")
        time.sleep(pause)


class Apus:
    """`apus up` in the private host that this program runs in."""

    def __init__(self, build="debug"):
        self.folder = os.environ[INSIDE]
        self.state = os.path.join(self.folder, "state")
        self.program = os.path.join(os.environ.get("APUS_BUILD") or os.path.join(ROOT, ".build"), build, "apus")
        self.log = os.path.join(self.folder, "apus.log")
        self.process = None
        # LSan and friends aside, nothing of the caller's login may reach the program.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
        self.environment["OS_CLIENT_CONFIG_FILE"] = os.path.join(self.state, "clouds.yaml")

    def start(self, options=(), limit=90):
        """Starts it and waits until everything serves."""
        os.makedirs(self.state, mode=0o711, exist_ok=True)
        ready = os.path.join(self.state, "endpoints.json")
        if os.path.exists(ready):
            os.unlink(ready)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "up", "--state-path", self.state, *options], stdout=log, stderr=log,
                env=self.environment)

        def serves():
            if self.process.poll() is not None:
                raise RuntimeError(f"apus up ended with {self.process.returncode}:\n{self.tail()}")
            return os.path.exists(ready)

        try:
            wait_for(serves, limit, "apus up to serve", pause=0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from error
        with open(ready, encoding="ascii") as file:
            self.endpoints = json.load(file)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self, limit=60):
        """Ends it as a service manager would; the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            tail = self.tail()
            self.kill()
            raise TimeoutError(f"apus up did not end in {limit} s after SIGTERM:\n{tail}") from None
        self.process = None
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.stop()

    def tail(self, lines=40):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    def client(self):
        return Client(read_clouds_yaml(os.path.join(self.state, "clouds.yaml")))

    def run(self, arguments, **options):
        """Standard output of a program that must succeed."""
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, **options)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def cli(self, *arguments):
        return self.run([self.program, *arguments])

    def upload_test_image(self, name="test-guest"):
        """Builds the test image if there is none yet; its id."""
        path = test_image()
        return json.loads(self.cli("image", "create", name, "--file", path, "--public", "--json"))["id"]

    # What the host holds for instances.

    def domains(self):
        """{uuid: state} of every domain."""
        found = {}
        for name in virsh("list", "--all", "--name").split():
            found[virsh("domuuid", name).strip()] = virsh("domstate", name).strip()
        return found

    def folders(self):
        path = os.path.join(self.state, "instances")
        if not os.path.isdir(path):
            return set()
        return {name for name in os.listdir(path) if len(name) == 36 and name.count("-") == 4}

    def reservations(self, network="default"):
        """Addresses reserved on the network."""
        tree = ElementTree.fromstring(virsh("net-dumpxml", network))
        return {host.get("ip") for host in tree.iter("host") if host.get("mac")}


def virsh(*arguments):
    return subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", *arguments], check=True, capture_output=True, text=True).stdout


def test_image():
    """The path of the test guest's image, built once a checkout."""
    path = os.path.join(ROOT, ".build", "test-guest.qcow2")
    if not os.path.exists(path):
        subprocess.run([os.path.join(ROOT, "deploy", "test-image"), path], check=True, stdout=sys.stderr)
    return path


class Checks:
    """Prints each check as a line that deploy/test counts."""

    def __init__(self):
        self.failed = 0

    def check(self, name, problem=None):
        """`problem` is falsy, or says what is wrong."""
        if problem:
            self.failed += 1
            print(f"not ok - {name}: {problem}", flush=True)
        else:
            print(f"ok - {name}", flush=True)

    @property
    def code(self):
        return 1 if self.failed else 0
