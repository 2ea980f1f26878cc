"""A PostgreSQL server of one run's own: on a socket in a temporary folder, without TCP, of the user that its package makes."""

import concurrent.futures
import os
import shutil
import signal
import subprocess
import tempfile
import time

from apus_host import clean_environment, end, wait_for

PROGRAMS = "/usr/lib/postgresql"
USER = "postgres"
START_SECONDS = 60


def _programs():
    """The folder of the newest server's programs."""
    versions = [int(name) for name in os.listdir(PROGRAMS) if name.isdigit()] if os.path.isdir(PROGRAMS) else []
    if not versions:
        raise RuntimeError(f"there is no PostgreSQL server in {PROGRAMS}: install the package postgresql")
    return os.path.join(PROGRAMS, str(max(versions)), "bin")


class PostgreSQL:
    """Made and started by `with`; what is in it is gone afterwards."""

    def __init__(self):
        self.programs, self.process = _programs(), None
        # The server ends with the thread that has started it: one that lives as long as this program.
        self.starter = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        # A socket's path has little room.
        self.folder = tempfile.mkdtemp(prefix="apus-pg-", dir="/tmp")
        self.url = f"postgresql://apus@/apus?host={self.folder}"

    def command(self, program, *arguments):
        """As the server's user; the server does not outlive this process."""
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--pdeathsig=QUIT",
                os.path.join(self.programs, program), *arguments]

    def tool(self, program, *arguments):
        done = subprocess.run(
            self.command(program, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/",
            env=clean_environment(), timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def psql(self, statement, database="apus"):
        """What a statement answers, a row a line."""
        return self.tool("psql", "--host", self.folder, "--username", "apus", "--no-psqlrc", "--quiet", "--tuples-only",
                         "--no-align", "--set", "ON_ERROR_STOP=1", "--command", statement, database)

    def start(self):
        """Starts it and waits until it takes connections. What a killed one left holds it up for a moment."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with open(os.path.join(self.folder, "server.log"), "ab") as log:
                self.process = self.starter.submit(
                    subprocess.Popen,
                    self.command(
                        "postgres", "-D", os.path.join(self.folder, "data"), "-c", "listen_addresses=",
                        "-c", f"unix_socket_directories={self.folder}", "-c", "shared_buffers=32MB",
                        "-c", "max_connections=200"),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=clean_environment(),
                    start_new_session=True).result()
            ready = self.command("pg_isready", "--quiet", "--host", self.folder)
            while self.process.poll() is None and time.monotonic() < until:
                if subprocess.run(ready, env=clean_environment(), cwd="/", check=False).returncode == 0:
                    return
                time.sleep(0.05)
            time.sleep(0.1)
        with open(os.path.join(self.folder, "server.log"), encoding="utf-8", errors="replace") as log:
            raise RuntimeError(f"the PostgreSQL server does not start:\n{log.read()[-3000:]}")

    def kill(self):
        """SIGKILLs the server; its sessions end by themselves."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def stop(self):
        """An immediate shutdown: every session is cut off, and the next start recovers from the log."""
        process, self.process = self.process, None
        if process:
            end(process, 30, signal.SIGQUIT)

    def backends(self):
        """Processes of this server that still run."""
        done = subprocess.run(["pgrep", "--full", f"^postgres:.*|-D {self.folder}/data"], capture_output=True, text=True,
                              check=False)
        mine = []
        for pid in done.stdout.split():
            try:
                if os.readlink(f"/proc/{pid}/cwd").startswith(self.folder):
                    mine.append(pid)
            except OSError:
                continue
        return mine

    def __enter__(self):
        try:
            shutil.chown(self.folder, USER, USER)
            self.tool("initdb", "-D", os.path.join(self.folder, "data"), "-U", "apus", "-E", "UTF8", "--locale=C",
                      "--auth=trust")
            self.start()
            self.tool("createdb", "--host", self.folder, "--username", "apus", "--template", "template0", "apus")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        # A session that was cut off takes a moment to leave the folder.
        wait_for(lambda: not self.backends(), 20, "the server's sessions to end")
        shutil.rmtree(self.folder, ignore_errors=True)
