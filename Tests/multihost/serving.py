"""Two hosts share the work; new credentials replace the old ones."""

from apus_host import test_image, wait_for


def run(cloud, _full):
    cloud.image = cloud.client.make_image("test-guest", test_image(), visibility="public")
    servers = [cloud.settle(cloud.launch(f"guest-{number}")) for number in (1, 2)]
    for server in servers:
        problem = None if server["status"] == "ACTIVE" else f"{server['status']}: {server.get('fault')}"
        cloud.checks.check(f"{server['name']} becomes ACTIVE", problem)
    places = {server["OS-EXT-SRV-ATTR:host"] for server in servers}
    cloud.checks.check("the two servers are on two hosts", places != {"host1", "host2"} and f"{places}")
    for server in servers:
        host = server["OS-EXT-SRV-ATTR:host"]
        cloud.checks.check(
            f"{server['name']} runs on {host}", {server["id"]} != cloud.domains(host) and f"{cloud.domains(host)}")
        console(cloud, server)
    rotate(cloud)
    for server in servers:
        found = cloud.client.find(server["id"])
        cloud.checks.check(f"{server['name']} has lived through it", found["status"] != "ACTIVE" and found["status"])
        cloud.remove(server["id"])
    left = {host: (cloud.domains(host), cloud.folders(host)) for host in cloud.agents}
    cloud.checks.check("nothing of them is left", any(d or f for d, f in left.values()) and f"{left}")


def console(cloud, server):
    def told():
        answer = cloud.client.compute("POST", f"/servers/{server['id']}/action", {"os-getConsoleOutput": {}})
        return server["id"] in answer["output"]

    try:
        wait_for(told, 60, "its console", pause=0.3)
        cloud.checks.check(f"{server['name']} says its uuid on its console, through the API")
    except TimeoutError as error:
        cloud.checks.check(f"{server['name']} says its uuid on its console, through the API", str(error))


def rotate(cloud):
    """The host joins once more, with a token of `apus host rotate`; its old credential then opens nothing."""
    agent, old = cloud.agents["host2"], cloud.secret("host2")
    token = cloud.control.cli("host", "rotate", "host2").strip()
    taken, said = cloud.heartbeat("host2", old)
    cloud.checks.check("the old credential holds until the host has joined again", not taken and said)
    agent.stop()
    code, said = agent.join(token)
    cloud.checks.check("a host joins again with a token of rotate", code and said)
    agent.start(ready="serving")
    taken, said = cloud.heartbeat("host2", old)
    cloud.checks.check("the old credential is refused", taken and said)
    taken, said = cloud.heartbeat("host2", cloud.secret("host2"))
    cloud.checks.check("the new credential is taken", not taken and said)
    cloud.wait_for_states(host1="up", host2="up")
    # The conductor has its new credential on the host as well: commands arrive.
    made = [cloud.settle(cloud.launch(f"rotated-{number}")) for number in (1, 2)]
    problem = [f"{s['name']}: {s['status']} {s.get('fault')}" for s in made if s["status"] != "ACTIVE"]
    places = {s["OS-EXT-SRV-ATTR:host"] for s in made}
    cloud.checks.check("both hosts take commands after it", problem or places != {"host1", "host2"} and f"{places}")
    for server in made:
        cloud.remove(server["id"])
