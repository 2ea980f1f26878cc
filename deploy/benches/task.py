"""What a durable step costs beside its own work, on SQLite and on PostgreSQL."""

import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(os.path.dirname(HERE)), "Tests", "support")]

from apus_host import clean_environment  # noqa: E402
from apus_postgresql import PostgreSQL  # noqa: E402

BENCH = os.path.join(os.environ["APUS_BINARIES"], "apus-bench")


def measure(engine, place):
    options = ["--database", place, "--engine", engine]
    if os.environ.get("APUS_BENCH_COUNT"):
        options += ["--count", os.environ["APUS_BENCH_COUNT"]]
    if os.environ.get("APUS_BENCH_TABLE"):
        options.append("--table")
    subprocess.run([BENCH, "task", *options], check=True, env=clean_environment())


def main():
    with tempfile.TemporaryDirectory(prefix="apus-bench-") as folder:
        measure("sqlite", os.path.join(folder, "apus.db"))
    with PostgreSQL() as server:
        measure("postgresql", server.url)


main()
