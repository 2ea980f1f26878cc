"""Starts that must fail with a sentence, and leave everything as it was."""

import os
import socket
import sqlite3
import subprocess
import time

START_SECONDS = 60


def run(rig):
    second_start(rig)
    locked_while_running(rig)
    server = rig.launch("survivor")
    rig.apus.stop()
    try:
        database_locked(rig)
        port_in_use(rig)
        bad_configuration(rig)
    finally:
        rig.apus.start()
        rig.reconnect()
    now = rig.settle(server["id"])
    rig.checks.check("the guest has lived through all of it", now["status"] != "ACTIVE" and now["status"])
    rig.remove(server["id"])
    rig.nothing_left("failed starts")


def fails(rig, name, words, options=(), extra=()):
    """`apus up` ends by itself with exit code 1 and a last line that contains each of `words`."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [rig.apus.program, "up", "--state-path", rig.apus.state, *options, *extra], env=rig.apus.environment,
            capture_output=True, text=True, timeout=START_SECONDS)
    except subprocess.TimeoutExpired as error:
        rig.checks.check(f"{name}: apus up ends with a sentence", f"it still runs after {START_SECONDS} s: {error.stderr}")
        return
    last = (done.stderr.strip().splitlines() or [""])[-1]
    missing = [word for word in words if word not in done.stderr]
    problem = None
    if done.returncode not in (1, 2):
        problem = f"exit code {done.returncode}: {last}"
    elif missing:
        problem = f"'{last}' does not say {missing}"
    rig.checks.check(f"{name}: apus up ends with a sentence ({time.monotonic() - began:.1f} s)", problem)


def second_start(rig):
    fails(rig, "a second start in the same folder", [rig.apus.state])
    rig.checks.check("the first one runs on", rig.client.compute("GET", "/servers")["servers"])


def locked(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def locked_while_running(rig):
    """Another process holds the database for longer than we wait for it: the request is refused, and a later one works."""
    holder = locked(os.path.join(rig.apus.state, "apus.db"))
    try:
        body = (f'{{"server": {{"name": "held up", "imageRef": "{rig.image}", "flavorRef": "{rig.flavor["id"]}",'
                '"networks": "auto"}}').encode()
        status, _, answer = rig.client.raw("POST", "/compute/v2.1/servers", body)
        rig.checks.check("a database locked by another process: the request is refused",
                         (status not in (500, 503) or b"message" not in answer) and f"{status} {answer[:200]!r}")
    finally:
        holder.rollback()
        holder.close()
    rig.nothing_left("a locked database")
    rig.remove(rig.launch("after the lock")["id"])


def database_locked(rig):
    holder = locked(os.path.join(rig.apus.state, "apus.db"))
    try:
        fails(rig, "a locked database", ["apus.db", "locked by another process"])
    finally:
        holder.rollback()
        holder.close()


def port_in_use(rig):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for role in ("api", "conductor", "scheduler", "agent"):
            fails(rig, f"the {role}'s port in use", [f"127.0.0.1:{port}", "in use"], [f"--{role}-port", str(port)])


def bad_configuration(rig):
    fails(rig, "a bad value", ["report_interval", "soon"], ["--set", "DEFAULT.report_interval=soon"])
    fails(rig, "an address beyond loopback for the metrics", ["metrics", "0.0.0.0:9100"],
          ["--set", "metrics.listen=0.0.0.0:9100"])
