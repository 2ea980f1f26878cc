"""Heartbeats and recorded reports a second: a conductor on one core, its callers on another."""

import os
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(os.path.dirname(HERE)), "Tests", "support")]

from apus_host import clean_environment, end, wait_for  # noqa: E402

BINARIES = os.environ["APUS_BINARIES"]
SECONDS = os.environ.get("APUS_BENCH_SECONDS") or "10"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    with tempfile.TemporaryDirectory(prefix="apus-bench-") as folder:
        url = f"127.0.0.1:{free_port()}"
        settings = [f"DEFAULT.state_path={folder}", f"conductor.listen={url}"]
        given = [word for setting in settings for word in ("--set", setting)]
        subprocess.run([os.path.join(BINARIES, "apus"), "bootstrap", *given], check=True, stdout=subprocess.DEVNULL,
                       env=clean_environment())
        log = os.path.join(folder, "conductor.log")
        with open(log, "wb") as file:
            conductor = subprocess.Popen(
                ["taskset", "-c", "0", os.path.join(BINARIES, "apus-conductor"), *given], stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, env=clean_environment())
        try:
            def listens():
                with open(log, "rb") as file:
                    said = file.read()
                if conductor.poll() is not None:
                    sys.exit(f"the conductor ended with {conductor.returncode}:\n{said.decode(errors='replace')}")
                return b"conductor listens" in said

            wait_for(listens, 60, "the conductor to listen")
            table = ["--table"] if os.environ.get("APUS_BENCH_TABLE") else []
            subprocess.run(
                ["taskset", "-c", "1", os.path.join(BINARIES, "apus-bench"), "rpc", "--database", f"{folder}/apus.db",
                 "--url", f"http://{url}", "--seconds", SECONDS, *table], check=True, env=clean_environment())
        finally:
            end(conductor, 30)


main()
