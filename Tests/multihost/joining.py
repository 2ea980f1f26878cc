"""One-time tokens, the authority's fingerprint, and TLS on every port."""

import http.client
import os
import socket
import ssl

from apus_client import Transport
from impostor import Impostor


def run(cloud, _full):
    tls_only(cloud)
    wrong_authority(cloud)
    control = cloud.control
    one, two = cloud.agents["host1"], cloud.agents["host2"]
    token = control.cli("host", "enroll", "host1").strip()
    refused(cloud, "a token of another host", two, token)
    code, said = one.join(token)
    cloud.checks.check("host1 joins with its token", code and said)
    refused(cloud, "a token that was used", one, token, has_joined=True)
    first = control.cli("host", "enroll", "host2").strip()
    second = control.cli("host", "enroll", "host2").strip()
    refused(cloud, "a token that a later one replaced", two, first)
    refused(cloud, "a token with a letter changed", two, ("0" if second[0] != "0" else "1") + second[1:])
    refused(cloud, "a token without the fingerprint, over https", two, second.split(".")[0])
    code, said = two.join(second)
    cloud.checks.check("host2 joins with its token", code and said)
    kept = os.path.join(two.state, "identity")
    modes = {name: os.stat(os.path.join(kept, name)).st_mode & 0o777 for name in os.listdir(kept)}
    cloud.checks.check(
        "the host's credentials are readable by their owner only", set(modes.values()) != {0o600} and f"{modes}")
    for agent in cloud.agents.values():
        agent.start(ready="serving")
    cloud.wait_for_states(host1="up", host2="up")
    cloud.checks.check("both hosts are listed and up")
    credentials(cloud)


def refused(cloud, what, agent, token, has_joined=False):
    code, said = agent.join(token)
    joined = os.path.exists(os.path.join(agent.state, "identity", "secret"))
    problem = None
    if code != 1 or joined != has_joined:
        problem = f"exit code {code}, joined: {joined}: {said}"
    elif token.split(".")[0] in said:
        problem = f"it prints the token: {said}"
    cloud.checks.check(f"{what} is refused", problem)


def tls_only(cloud):
    """The public ports speak nothing but TLS, under a certificate of the installation's authority."""
    address = cloud.addresses["host1"]
    for name, port in (("conductor", 8781), ("api", 8774)):
        plain = http.client.HTTPConnection(address, port, timeout=10)
        try:
            plain.request("GET", "/")
            problem = f"it answers {plain.getresponse().status}"
        except (http.client.HTTPException, OSError):
            problem = None
        plain.close()
        cloud.checks.check(f"the {name} answers nothing in plaintext", problem)
        try:
            Transport(f"https://{address}:{port}").send("GET", "/", {}, None)
            problem = "a client without the authority trusts it"
        except ssl.SSLCertVerificationError:
            problem = None
        cloud.checks.check(f"the {name}'s certificate is not one of the world's", problem)
        status, _, _ = Transport(f"https://{address}:{port}", cloud.control.authority()).send("GET", "/", {}, None)
        cloud.checks.check(f"the {name}'s certificate holds for the authority", status >= 500 and str(status))


def wrong_authority(cloud):
    """Whoever answers with another authority's certificate learns no secret."""
    agent = cloud.agents["host2"]
    token = cloud.control.cli("host", "enroll", "host2").strip()
    impostor = Impostor(agent.state, cloud.addresses["host1"])
    impostor.start()
    try:
        code, said = agent.join(token, impostor.url)
    finally:
        impostor.stop()
    problem = None
    if code != 1 or "authority" not in said:
        problem = f"exit code {code}: {said}"
    elif not impostor.requests or any(not request.startswith("GET /apus/v1/ca ") for request in impostor.requests):
        problem = f"it was asked {impostor.requests}"
    elif token.split(".")[0] in "\n".join(impostor.requests):
        problem = f"it was sent the token: {impostor.requests}"
    cloud.checks.check("an impostor's authority is refused before any secret is sent", problem)
    altered = token[:-1] + ("0" if token[-1] != "0" else "1")
    code, said = agent.join(altered)
    cloud.checks.check(
        "another fingerprint in the token is refused", (code != 1 or "authority" not in said) and f"{code}: {said}")


def credentials(cloud):
    """Each pair has its own credentials, valid in one direction."""
    one, two = cloud.secret("host1"), cloud.secret("host2")
    for what, wanted, answer in (
        ("its own credential", True, cloud.heartbeat("host1", one)),
        ("another host's credential", False, cloud.heartbeat("host1", two)),
        ("no credential", False, cloud.heartbeat("host1", "")),
        # Its own credential opens the conductor, but it may not speak for another.
        ("the credential of the host that speaks for it", False, cloud.heartbeat("host2", one, speaker="host1")),
    ):
        taken, said = answer
        cloud.checks.check(
            f"a heartbeat with {what} is {'taken' if wanted else 'refused'}", taken != wanted and said)
    # What host1 shows to the conductor opens nothing on host2, nor on host1 itself.
    for host in ("host1", "host2"):
        for peer in ("host:host1", "service:conductor"):
            status, kind = cloud.call(cloud.addresses[host], 8783, "compute.get_console_output", {}, peer, one)
            cloud.checks.check(
                f"host1's credential as {peer} opens nothing on {host}",
                status != 401 and kind != "unauthenticated" and f"{status} {kind}")
    with socket.create_connection((cloud.addresses["host2"], 8783), timeout=10) as plain:
        plain.sendall(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        try:
            answer = plain.recv(64)
        except OSError:
            answer = b""
    cloud.checks.check("an agent answers nothing in plaintext", answer.startswith(b"HTTP") and repr(answer))
