"""Nothing listens on, or sends a credential to, an address beyond loopback without TLS, unless that is allowed."""

import os
import subprocess

from apus_daemons import Agent, ControlPlane, Daemon
from apus_host import INSIDE


def run(checks, binaries, addresses):
    beyond = addresses["host1"]
    state = os.path.join(os.environ[INSIDE], "plain")
    os.makedirs(state, mode=0o700)
    common = ["--set", f"DEFAULT.state_path={state}", "--set", "DEFAULT.host=plain"]
    for program, option in (
        ("apus-api", f"api.conductor_urls=http://{beyond}:8781"),
        ("apus-scheduler", f"scheduler.conductor_urls=http://{beyond}:8781"),
        ("apus-conductor", f"conductor.scheduler_urls=http://{beyond}:8782"),
    ):
        daemon = Daemon(binaries, program, name="plain-" + program, options=[*common, "--set", option])
        checks.check(
            f"{program} does not start with a peer beyond loopback in plaintext",
            does_not_start(daemon, f"http://{beyond}", "plaintext"))
        allowed = Daemon(
            binaries, program, name="allowed-" + program,
            options=[*common, "--set", option, "--set", "apus.allow_plaintext=true"])
        try:
            allowed.start(ready="listens")
            problem = None if "allow_plaintext is set" in allowed.tail() else "it does not warn"
        except (RuntimeError, TimeoutError) as error:
            problem = str(error)
        finally:
            allowed.stop()
        checks.check(f"{program} starts with allow_plaintext, and warns", problem)
    with checks.guard("an agent and a control plane on loopback"):
        agents(checks, binaries, beyond)


def does_not_start(daemon, *words):
    """What is wrong when it does, or does not say why not."""
    try:
        code, said = daemon.run(seconds=20)
    except subprocess.TimeoutExpired as error:
        return f"it runs: {error.output}"
    return None if code == 1 and all(word in said for word in words) else f"exit code {code}: {said}"


def agents(checks, binaries, beyond):
    """A host that joined over loopback has no certificate, and so does not listen beyond it."""
    with ControlPlane(binaries, name="loopback") as control:
        control.start()
        agent = Agent(control, "plain-agent")
        agent.enroll()
        agent.options += ["--set", f"compute.listen={beyond}:8783"]
        checks.check(
            "an agent without a certificate does not listen beyond loopback",
            does_not_start(agent, "certificate", "allow_plaintext"))
        token = control.cli("host", "enroll", "far-agent").strip()
        far = Agent(control, "far-agent", address=beyond)
        code, said = far.join(token, f"http://{beyond}:8781")
        checks.check(
            "no token is sent beyond loopback over http", None if code == 1 and "https" in said else f"{code}: {said}")
        code, said = far.join(token)
        checks.check(
            "a host that listens beyond loopback does not join over http",
            None if code == 1 and ("certificate" in said or "https" in said) else f"{code}: {said}")
