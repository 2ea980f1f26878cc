"""`apus simulate`: hundreds of hosts that are only played, while agents go away and conductors are killed."""

import json
import os
import subprocess

from apus_host import clean_environment
from apus_postgresql import PostgreSQL

HOSTS, RATE, SECONDS = 300, 6, 15
FULL_HOSTS, FULL_RATE, FULL_SECONDS = 1_000, 10, 300


def simulated(binaries, checks, seed, full):
    print("# on SQLite", flush=True)
    play(binaries, checks, seed, full)
    with PostgreSQL() as server:
        print("# on PostgreSQL", flush=True)
        play(binaries, checks, seed, full, "--database", server.url)


def play(binaries, checks, seed, full, *more):
    hosts, rate, seconds = (FULL_HOSTS, FULL_RATE, FULL_SECONDS) if full else (HOSTS, RATE, SECONDS)
    # As many a minute as make one in a few seconds.
    done = subprocess.run(
        [os.path.join(binaries, "apus"), "simulate", "--json", "--hosts", str(hosts), "--rate", str(rate),
         "--seconds", str(seconds), "--lifetime", "5", "--snapshots", "30", "--conductors", "3", "--deaths", "20", "--kills", "12",
         "--seed", str(seed), *more],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=clean_environment(), timeout=seconds + 400)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        checks.check("the simulation comes to its end", f"{done.returncode}: {done.stdout}{done.stderr}")
        return
    checks.check(
        f"hosts and database agree after {said['accepted']} launches, {said['deaths']} agents and {said['kills']} "
        "conductors that died", "\n".join(said["problems"]))
    checks.check(
        "every launch that was accepted has its answer",
        said["active"] + said["failed"] != said["accepted"] and f"{said}")
    checks.check("deletions were accepted, and each is looked for", not said["deletions_accepted"] and f"{said}")
    checks.check(
        f"{said['snapshots_accepted']} images were asked for, and each was made, or not because its server went",
        (said["snapshots_made"] + said["snapshots_failed"] != said["snapshots_accepted"]
         or not said["snapshots_made"]) and f"{said}")
    checks.check("conductors were killed", not said["kills"] and f"{said}")
