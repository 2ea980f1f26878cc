"""Three conductors on one database, of SQLite and (with clocks that differ by minutes) of PostgreSQL: killed, halted for
longer than their leases, and restarted, under a steady load."""

import datetime
import os
import signal

from apus_host import wait_for
from apus_postgresql import PostgreSQL
from ground import QUICK, Ground
from soak import ACTIONS, SNAPSHOT, Bag, Soak

# Longer than a lease, so that others take the tasks over before the halted one goes on.
HALT_SECONDS = (16, 22)
CALM_SECONDS = (2, 6)
# By how much the clocks of the conductors on PostgreSQL are wrong: as those of several machines may be.
WRONG_CLOCKS = (0, 300, -300)


class Conductors(Soak):
    """The same requests as in the soak, and snapshots; but it is conductors that die, or sleep and wake up with what they
    had."""

    actions = {**ACTIONS, "ACTIVE": [*ACTIONS["ACTIVE"], (SNAPSHOT, None)]}

    def __init__(self, ground, checks, seed, seconds, server=None):
        super().__init__(ground, checks, seed, seconds)
        self.server = server
        self.deeds = {"killed": 0, "halted": 0, "restarted": 0, **({"without database": 0} if server else {})}

    def kill(self, chance):
        control = self.ground.control
        # A kill is as likely as it is in life; but a short run sees each of them.
        bag = Bag(chance, ("killed", *self.deeds))
        while not self.over.wait(chance.uniform(*CALM_SECONDS)):
            if bag.rounds:
                self.varied.set()
            deed = bag.draw()
            if deed == "without database":
                self.crash_database(chance)
                continue
            # One goes on, so that something is there to take over.
            victims = chance.sample(control.conductors, chance.choice((1, 1, 2)))
            for victim in victims:
                self.strike(victim, deed)
            self.kills += len(victims)
            self.deeds[deed] += len(victims)
            self.over.wait(chance.uniform(*HALT_SECONDS) if deed == "halted" else chance.uniform(0, 3))
            for victim in victims:
                self.mend(victim, deed)
        wait_for(
            lambda: any(h["state"] == "up" for h in control.client().hypervisors()), 60, "a host that is up")

    def crash_database(self, chance):
        """The database's server dies, and is away for a moment."""
        chance.choice((self.server.kill, self.server.stop))()
        self.deeds["without database"] += 1
        self.over.wait(chance.uniform(0, 4))
        self.server.start()

    @staticmethod
    def strike(victim, deed):
        if deed == "killed":
            victim.kill()
        elif deed == "halted":
            os.kill(victim.process.pid, signal.SIGSTOP)
        else:
            victim.stop()

    @staticmethod
    def mend(victim, deed):
        if deed == "halted":
            os.kill(victim.process.pid, signal.SIGCONT)
        else:
            victim.start(ready="conductor listens")

    def run(self):
        super().run()
        print(f"# conductors: {self.deeds}", flush=True)
        control = self.ground.control
        said = control.tool.run("db", "check")
        self.checks.check("no record contradicts another", said[0] and said[1])
        tasks = [task for task in control.client().apus("GET", "/tasks")["tasks"]]
        self.checks.check("no task is under way", tasks and f"{tasks}")


# Signs of life may wait for a conductor that is halted.
LIVELY = ("DEFAULT.report_interval=1", *QUICK)


def clock(daemon):
    """Seconds at which a daemon's log says that it has begun to listen."""
    with open(daemon.log, encoding="utf-8") as file:
        line = [line for line in file if "conductor listens" in line][-1]
    return datetime.datetime.fromisoformat(line.split(" ")[0].replace("Z", "+00:00")).timestamp()


def on_sqlite(binaries, checks, seed, seconds):
    with Ground(binaries, agent_options=LIVELY, conductors=3, name="three") as ground:
        Conductors(ground, checks, seed, seconds).run()


def on_postgresql(binaries, checks, seed, seconds):
    with PostgreSQL() as server, Ground(
            binaries, agent_options=LIVELY, conductors=3, name="three-pg", connection=server.url,
            clocks=WRONG_CLOCKS) as ground:
        apart = max(clocks := [clock(conductor) for conductor in ground.control.conductors]) - min(clocks)
        checks.check("the conductors' clocks differ by minutes", apart < 500 and f"{apart} s: {clocks}")
        Conductors(ground, checks, seed, seconds, server).run()
