"""What is killed: `apus up` as a whole, or the four daemons of a spread installation, one or several at a time."""

import os

from apus_daemons import Agent, ControlPlane
from apus_host import INSIDE, Apus, HostView


class Whole(Apus):
    """All four roles in one process."""

    name = "apus up"

    @property
    def scratch(self):
        return self.folder

    def victims(self, _random):
        return [self]

    def named(self, _victims):
        return ""

    def kill(self, victims):
        for victim in victims:
            Apus.kill(victim)


class Apart(HostView):
    """Conductor, scheduler, API and agent as processes of their own, on one host."""

    name = "daemons apart"

    def __init__(self, binaries):
        self.control = ControlPlane(binaries)
        self.agent = Agent(self.control, "compute")
        super().__init__(os.path.join(self.agent.state, "instances"), os.path.join(self.control.state, "images"))
        self.scratch = os.environ[INSIDE]
        self.ready = {}
        self.has_joined = False

    @property
    def daemons(self):
        return [*self.control.daemons, self.agent]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, limit=60):
        """Starts those that do not run, and waits until they serve."""
        if not self.has_joined:
            self.control.start()
            self.agent.enroll()
            self.has_joined = True
        words = ("conductor listens", "scheduler listens", "api listens", "serving")
        for daemon, ready in zip(self.daemons, words):
            if daemon.process is None:
                daemon.start(ready=ready)

    def stop(self):
        """Ends them; 0 when each ended with 0."""
        codes = [self.agent.stop(), *self.control.stop()]
        return 0 if not any(codes) else codes

    def client(self):
        return self.control.client()

    def victims(self, random):
        """One, or several, or all."""
        count = random.choice((1, 1, 1, 2, 4))
        return random.sample(self.daemons, count)

    def named(self, victims):
        return ", ".join(sorted(os.path.basename(victim.path) for victim in victims)) + " "

    def kill(self, victims):
        for victim in victims:
            victim.kill()

    def tail(self):
        return "\n".join(f"{daemon.log}:\n{daemon.tail()}" for daemon in self.daemons)
