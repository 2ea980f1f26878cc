"""The control processes and agents as programs of their own, each in a host of the lab."""

import os
import re
import shutil
import subprocess
import time

from apus_client import Client, read_clouds_yaml
from apus_host import INSIDE, clean_environment, end, in_host, wait_for

START_SECONDS = 60


def wrong_clock():
    """The library that makes a clock wrong, built once a run by the toolchain's own compiler."""
    path = os.path.join(os.environ[INSIDE], "wrong_clock.so")
    if not os.path.exists(path):
        swift = os.path.realpath(shutil.which("swift"))
        clang = os.path.join(os.path.dirname(swift), "clang")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrong_clock.c")
        subprocess.run([clang, "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", path, source], check=True)
    return path


class Daemon:
    """One program in one host of the lab, with its own log."""

    def __init__(self, binaries, program, host="host1", name=None, options=()):
        self.path = os.path.join(binaries, program)
        self.host, self.options = host, list(options)
        self.log = os.path.join(os.environ[INSIDE], f"{name or program}.log")
        self.environment = {}
        self.process = None

    def command(self, *arguments):
        command = [self.path, *arguments, *self.options]
        # This program is inside the first host itself.
        return command if self.host == "host1" else in_host(self.host, *command)

    def start(self, *arguments, ready=None, environment=None):
        """Starts it; with `ready`, waits until its log has a line with that text. Returns the seconds that took.

        `environment` comes on top of ours, for this time.
        """
        size = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(*arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**clean_environment(), **self.environment, **(environment or {})}, start_new_session=True)
        if ready:
            def said():
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.path} ended with {self.process.returncode}:\n{self.tail()}")
                with open(self.log, "rb") as file:
                    file.seek(size)
                    return ready.encode() in file.read()

            wait_for(said, START_SECONDS, f"'{ready}' in {self.log}", pause=0.01)
        return time.monotonic() - began

    def run(self, *arguments, seconds=60):
        """Runs it to its end: the exit code and everything it printed."""
        done = subprocess.run(
            self.command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=clean_environment(), timeout=seconds)
        return done.returncode, done.stdout

    def stop(self, seconds=30):
        if self.process is None:
            return 0
        process, self.process = self.process, None
        return end(process, seconds)

    def set_clock(self, seconds):
        """From its next start on the program's clock is wrong by so many seconds; time passes as everywhere."""
        self.environment = {"LD_PRELOAD": wrong_clock(), "WRONG_CLOCK_SECONDS": str(seconds)}

    def dies(self, seconds):
        """Waits until it has ended by itself, at most `seconds`; whether it has."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.process = None
        return True

    def kill(self):
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def tail(self, lines=30):
        """The end of its log; where it has crashed, from there on."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            said = file.readlines()
        if self.process is not None and self.process.poll() not in (None, 0):
            crash = next((i for i in range(len(said) - 1, -1, -1) if "Program crashed" in said[i]), None)
            if crash is not None:
                return "".join(said[max(0, crash - 3):crash + 120])
        return "".join(said[-lines:])


class ControlPlane:
    """Conductors, each with a scheduler of its own, and the API as programs, with one database, on the first host.

    Without `connection` the database is a file in the state folder.
    """

    def __init__(self, binaries, address="127.0.0.1", options=(), name="control", conductors=1, connection=None):
        self.binaries, self.address = binaries, address
        self.state = os.path.join(os.environ[INSIDE], name)
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        scheme = "http" if address == "127.0.0.1" else "https"
        self.conductor_urls = [f"{scheme}://{address}:{8781 + 10 * number}" for number in range(conductors)]
        self.conductor_url = self.conductor_urls[0]
        known = ",".join(self.conductor_urls)
        self.api_url = f"{scheme}://{address}:8774"
        settings = [
            f"DEFAULT.state_path={self.state}", "DEFAULT.host=control", f"api.listen={address}:8774",
            f"conductor.listen={address}:8781", f"api.conductor_urls={known}",
            f"scheduler.conductor_urls={known}", f"image.data_url={self.api_url}", *options,
        ]
        if connection:
            settings.append(f"database.connection={connection}")
        self.daemons = [
            Daemon(binaries, name, options=self._known(name, settings))
            for name in ("apus-conductor", "apus-scheduler", "apus-api")
        ]
        schedulers = [f"http://127.0.0.1:{8782 + 10 * number}" for number in range(conductors)]

        def another(program, number):
            # Each has a name of its own, under which it has tasks. It asks its own scheduler first.
            own = [
                *settings, f"DEFAULT.host=control-{number + 1}", f"conductor.listen={address}:{8781 + 10 * number}",
                f"scheduler.listen=127.0.0.1:{8782 + 10 * number}",
                f"conductor.scheduler_urls={','.join(schedulers[number:] + schedulers[:number])}"]
            return Daemon(binaries, program, name=f"{program}-{number + 1}", options=self._known(program, own))

        self.schedulers = [another("apus-scheduler", number) for number in range(1, conductors)]
        self.others = [another("apus-conductor", number) for number in range(1, conductors)]
        self.tool = Daemon(binaries, "apus", options=self._known("apus", settings))
        self.environment = clean_environment()
        self.environment.update(
            OS_CLIENT_CONFIG_FILE=os.path.join(self.state, "clouds.yaml"), OS_CLOUD="apus")

    def _known(self, program, settings):
        """The settings that a program has; it would warn of the others, and --set refuses them."""
        if program == "apus":
            return [word for setting in settings for word in ("--set", setting)]
        said = subprocess.run([os.path.join(self.binaries, program), "--print-config"], check=True,
                              capture_output=True, text=True, env=clean_environment()).stdout
        section, options = "", set()
        for line in said.splitlines():
            if found := re.match(r"\[(.+)\]", line):
                section = found[1]
            elif found := re.match(r"#?\s*(\w+)\s*=", line):
                options.add(f"{section}.{found[1]}")
        return [word for s in settings if s.split("=")[0] in options for word in ("--set", s)]

    def start(self):
        code, said = self.tool.run("bootstrap")
        if code != 0:
            raise RuntimeError(f"apus bootstrap ended with {code}: {said}")
        for daemon, ready in zip(self.daemons, ("conductor listens", "scheduler listens", "api listens")):
            daemon.start(ready=ready)
        for conductor in self.others:
            conductor.start(ready="conductor listens")
        for scheduler in self.schedulers:
            scheduler.start(ready="scheduler listens")

    @property
    def conductors(self):
        return [self.daemons[0], *self.others]

    def placements(self):
        """How many requests each scheduler has found hosts for."""
        counts = []
        for scheduler in (self.daemons[1], *self.schedulers):
            with open(scheduler.log, encoding="utf-8", errors="replace") as file:
                counts.append(sum(" scheduler: placed " in line for line in file))
        return counts

    def authority(self):
        path = os.path.join(self.state, "ca.pem")
        if not os.path.exists(path):
            return None
        with open(path, encoding="ascii") as file:
            return file.read()

    def client(self):
        return Client(read_clouds_yaml(os.path.join(self.state, "clouds.yaml")), self.authority())

    def cli(self, *arguments):
        """Standard output of `apus …`, which must succeed."""
        done = subprocess.run(
            [os.path.join(self.binaries, "apus"), *arguments], env=self.environment, capture_output=True, text=True,
            timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"apus {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def stop(self):
        """Ends them, the API first; their exit codes."""
        return [daemon.stop() for daemon in reversed([*self.schedulers, *self.others, *self.daemons])]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Agent(Daemon):
    """An `apus-compute` in a host of the lab."""

    def __init__(self, control, name, host="host1", address="127.0.0.1", port=8783, options=()):
        self.control, self.name = control, name
        self.state = os.path.join(os.environ[INSIDE], name)
        os.makedirs(self.state, mode=0o711, exist_ok=True)
        settings = [
            f"DEFAULT.state_path={self.state}", f"DEFAULT.host={name}", f"compute.listen={address}:{port}", *options]
        super().__init__(
            control.binaries, "apus-compute", host, name, [word for s in settings for word in ("--set", s)])

    def token_file(self, token):
        path = os.path.join(self.state, "token")
        with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(token)
        return path

    def join(self, token, url=None):
        """The exit code and what was printed."""
        return self.run("--join", url or self.control.conductor_url, "--token-file", self.token_file(token))

    def enroll(self):
        """Enrolls the host and lets it join."""
        code, said = self.join(self.control.cli("host", "enroll", self.name).strip())
        if code != 0:
            raise RuntimeError(f"{self.name} could not join: {said}")
