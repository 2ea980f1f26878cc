"""Requests that are refused before anything is made."""

import json
import time
import uuid

TOKEN_SECONDS = 60
SERVERS = "/compute/v2.1/servers"


def run(rig):
    good = {"name": "x", "imageRef": rig.image, "flavorRef": rig.flavor["id"], "networks": "auto"}

    def server(**fields):
        return json.dumps({"server": {**good, **fields}}).encode()

    unknown = str(uuid.uuid4())
    table = [
        ("malformed JSON", 400, ["malformed", "byte 23"], b'{"server": {"name": "x"'),
        ("bytes that are not UTF-8", 400, [], b'{"server": {"name": "\xff\xfe"}}'),
        ("a body that is a list", 400, [], b"[]"),
        ("no server in the body", 400, ["server"], b"{}"),
        ("a name that is a number", 400, ["name"], server(name=5)),
        ("a name that is a list", 400, ["name"], server(name=["x"])),
        ("an empty name", 400, ["name"], server(name="")),
        ("a name of 256 characters", 400, ["name"], server(name="n" * 256)),
        ("a flavorRef that is an object", 400, ["flavorRef"], server(flavorRef={})),
        ("a min_count that is a text", 400, ["min_count"], server(min_count="many")),
        ("metadata that is a list", 400, ["metadata"], server(metadata=[])),
        ("an unknown field", 400, ["colour"], server(colour="red")),
        ("an unknown flavor", 400, ["no-such-flavor"], server(flavorRef="no-such-flavor")),
        ("an unknown image", 400, [unknown], server(imageRef=unknown)),
        ("an image that is no uuid", 400, ["imageRef"], server(imageRef="debian")),
        ("an unknown key pair", 400, ["key"], server(key_name="nobody's")),
        ("a network by uuid", 400, ["network"], server(networks=[{"uuid": unknown}])),
        ("a body over the limit", 413, [], server(user_data="A" * (2 << 20))),
    ]
    for name, status, words, body in table:
        rig.refused(name, status, words, "POST", SERVERS, body)
    rig.refused("a server that does not exist", 404, [unknown], "GET", f"{SERVERS}/{unknown}")
    rig.refused("a path that does not exist", 404, [], "GET", "/compute/v2.1/nothing")
    rig.refused("a method that the path has not", 405, [], "DELETE", SERVERS)
    rig.refused("a microversion that is none", 400, [], "GET", SERVERS, headers={"OpenStack-API-Version": "compute x"})
    rig.refused("a microversion beyond ours", 406, [], "GET", SERVERS, headers={"OpenStack-API-Version": "compute 2.999"})
    for what, token in (("no token", None), ("a token of nobody", "x" * 32)):
        for path in (SERVERS, "/image/v2/images", "/apus/v1/tasks"):
            rig.refused(f"{what} at {path}", 401, ["authentication"], "GET", path, token=token)
        rig.refused(f"{what} at a POST", 401, [], "POST", SERVERS, server(), token=token)
    rig.nothing_left("refused requests")
    projects(rig)


def projects(rig):
    """What is another project's is not there for its neighbours."""
    project = rig.client.identity("POST", "/projects", {"project": {"name": "neighbour"}})["project"]["id"]
    user = rig.client.identity(
        "POST", "/users", {"user": {"name": "neighbour", "password": "a long one"}})["user"]["id"]
    role = next(r["id"] for r in rig.client.identity("GET", "/roles")["roles"] if r["name"] == "member")
    rig.client.identity("PUT", f"/projects/{project}/users/{user}/roles/{role}")
    other = rig.client.as_user("neighbour", "a long one", "neighbour")
    mine = rig.launch("mine")["id"]
    admin, rig.client = rig.client, other
    path = f"{SERVERS}/{mine}"
    try:
        rig.refused("another project's server", 404, [mine], "GET", path)
        rig.refused("another project's server, deleted", 404, [mine], "DELETE", path)
        for action in ({"os-stop": None}, {"reboot": {"type": "HARD"}}, {"os-getConsoleOutput": {}}):
            name = next(iter(action))
            rig.refused(
                f"another project's server, {name}", 404, [mine], "POST", f"{path}/action", json.dumps(action).encode())
        rig.refused("tasks for a member", 403, [], "GET", "/apus/v1/tasks")
        listed = other.compute("GET", "/servers")["servers"]
        rig.checks.check("another project's servers are not in the list", listed)
    finally:
        rig.client = admin
    rig.refused("an unknown action", 400, [], "POST", f"{path}/action", b'{"dance": {}}')
    rig.refused("a reboot of no kind", 400, [], "POST", f"{path}/action", b'{"reboot": {"type": "WARM"}}')
    rig.refused(
        "a console of a text's length", 400, [], "POST", f"{path}/action", b'{"os-getConsoleOutput": {"length": "all"}}')
    rig.refused("a start of what runs", 409, [], "POST", f"{path}/action", b'{"os-start": null}')
    server = rig.client.find(mine)
    rig.checks.check("the server has not noticed", server["status"] != "ACTIVE" and server["status"])
    rig.remove(mine)
    rig.nothing_left("another project's server")


def expired(rig):
    """Waits for the end of the token that was made at the beginning; to be called last."""
    rest = TOKEN_SECONDS + 1 - (time.monotonic() - rig.old_since)
    if rest > 0:
        time.sleep(rest)
    rig.refused("an expired token", 401, ["authentication"], "GET", SERVERS, token=rig.old_token)
