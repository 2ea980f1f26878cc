"""Deletions that come early, and twice."""

import threading

from apus_client import Refused
from apus_host import wait_for
from guests import SETTLE_SECONDS, Guest, differs


def early(ground, checks):
    """During the build: at once, and in each of its states."""
    for state in (None, "scheduling", "networking", "spawning"):
        guest = Guest(ground, f"early-{state}", ground.talking)
        if state:
            wait_for(lambda: guest.shown()["OS-EXT-STS:task_state"] in (state, None), SETTLE_SECONDS, state,
                     pause=0.001)
        seen = guest.shown()["OS-EXT-STS:task_state"] or guest.shown()["status"]
        guest.remove()
        checks.check(f"deleted during its build, at {state or 'once'} (in {seen}): nothing is left",
                     leaves(ground, guest))


def twice(ground, checks):
    """Two at the same moment: both are answered as they may be, and the server goes once."""
    guest = Guest(ground, "twice", ground.talking).ready()
    gate, answers = threading.Barrier(2), []

    def delete():
        client = ground.control.client()
        client.authenticate()
        gate.wait()
        try:
            client.act(guest.id, "forceDelete", None)
            answers.append(204)
        except Refused as refused:
            answers.append(refused.status)

    both = [threading.Thread(target=delete) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    allowed = 204 in answers and set(answers) <= {204, 404, 409}
    checks.check("two deletions at once are answered", None if allowed else f"{answers}")
    wait_for(lambda: guest.shown()["status"] == "gone", SETTLE_SECONDS, "the end of the server deleted twice")
    checks.check("deleted twice at once: nothing is left", leaves(ground, guest))


def leaves(ground, guest):
    """Falsy when nothing is left of a server; what is, after the host that it may have reached has been asked."""
    def left():
        return guest.domain(), guest.id in ground.folders(), guest.client.tasks(guest.id)

    nothing = (None, False, [])
    try:
        wait_for(lambda: left() == nothing, SETTLE_SECONDS, "the end of all that was under way", pause=0.1)
    except TimeoutError:
        return differs(left(), nothing)
    return None


def run(ground, checks):
    early(ground, checks)
    twice(ground, checks)
