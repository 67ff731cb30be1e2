"""What goes wrong, drawn from the seed: crashes, pauses, cuts, clogs, transfers, changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from labkit.base.errors import LabkitError
from labkit.cluster.raft.errors import InvariantViolated
from labkit.cluster.raft.simulation.cluster import Cluster

__all__ = ["ALL_KINDS", "Faults"]

MS = 1_000_000

ALL_KINDS = (
    "crash",
    "crash_leader",
    "reboot",
    "reboot_all",
    "chase_leaders",
    "pause",
    "pause_leader",
    "cut",
    "cut",
    "cut_off_leader",
    "quarrel",
    "side_with_learners",
    "sleeper",
    "late_handover",
    "clog",
    "transfer",
    "change",
)
"""Every kind of fault; what stands here twice happens twice as often."""

_MACHINES_MAX = 9


class Faults:
    """Injects one fault after another, every `every_ns` on average, and counts them by name.

    `kinds` are names from ALL_KINDS: fewer of them look harder at one corner. `scale` makes every
    fault last so many times as long, for clusters whose clocks tick slower.
    """

    def __init__(
        self,
        cluster: Cluster,
        every_ns: int = 700 * MS,
        kinds: Iterable[str] = ALL_KINDS,
        scale: int = 1,
    ) -> None:
        self._cluster = cluster
        self._every_ns = every_ns * scale
        self._ms = MS * scale
        self._over = False
        self.counts: Counter[str] = Counter()
        self._kinds: tuple[Callable[[], str], ...] = tuple(
            getattr(self, f"_{kind}") for kind in kinds
        )
        self._plan()

    def stop(self) -> None:
        """No more of it: what is broken is mended, and everybody runs."""
        self._over = True
        self._cluster.network.heal()
        for server in self._cluster.servers.values():
            server.resume()
            self._cluster.restart(server.id)

    def _plan(self) -> None:
        self._cluster.loop.after(self._delay(self._every_ns), self._strike)

    def _delay(self, mean_ns: int) -> int:
        return int(self._cluster.rng.expovariate(1.0) * mean_ns)

    def _strike(self) -> None:
        if self._over:
            return
        name = self._cluster.rng.choice(self._kinds)()
        if name:
            self.counts[name] += 1
        self._plan()

    def _any(self) -> int:
        return self._cluster.rng.choice(sorted(self._cluster.servers))

    def _down(self, server_id: int) -> None:
        cluster = self._cluster
        cluster.crash(server_id)
        cluster.loop.after(self._delay(500 * self._ms), cluster.restart, server_id)

    def _crash(self) -> str:
        self._down(self._any())
        return "crash"

    def _crash_leader(self) -> str:
        leader = self._cluster.leader()
        if leader is None:
            return ""
        self._down(leader.id)
        return "crash leader"

    def _blink(self, server_id: int) -> None:
        """Down and up again before the others have noticed, and before an election is over."""
        self._cluster.crash(server_id)
        self._cluster.loop.after(self._delay(3 * self._ms), self._cluster.restart, server_id)

    def _reboot(self) -> str:
        self._blink(self._any())
        return "quick restart"

    def _reboot_all(self) -> str:
        for server_id in sorted(self._cluster.servers):
            if self._cluster.rng.random() < 0.6:
                self._blink(server_id)
        return "quick restart of many"

    def _chase_leaders(self, hunts: int = 250) -> str:
        """Every leader of the next moments falls soon after its election (figure 3.7)."""
        if self._over:
            return ""
        leader = self._cluster.leader()
        if leader is not None:
            self._blink(leader.id)
        if hunts:
            self._cluster.loop.after(self._delay(6 * self._ms), self._chase_leaders, hunts - 1)
        return "leaders chased"

    def _pause(self) -> str:
        server = self._cluster.servers[self._any()]
        server.pause()
        self._cluster.loop.after(self._delay(400 * self._ms), self._resume, server.id)
        return "pause"

    def _pause_leader(self) -> str:
        """A leader that stands still and then goes on as if no time had passed."""
        leader = self._cluster.leader()
        if leader is None:
            return ""
        leader.pause()
        self._cluster.loop.after(self._delay(300 * self._ms), self._resume, leader.id)
        return "leader paused"

    def _resume(self, server_id: int) -> None:
        self._cluster.servers[server_id].resume()

    def _cut(self) -> str:
        rng = self._cluster.rng
        everyone = sorted(self._cluster.servers)
        rng.shuffle(everyone)
        middle = 1 + rng.randrange(max(1, len(everyone) - 1))
        both = rng.random() < 0.7
        self._cluster.network.cut(everyone[:middle], everyone[middle:], both=both)
        self._cluster.loop.after(self._delay(1000 * self._ms), self._cluster.network.heal)
        return "partition" if both else "one-way partition"

    def _cut_off_leader(self) -> str:
        leader = self._cluster.leader()
        if leader is None:
            return ""
        others = [server for server in self._cluster.servers if server != leader.id]
        self._cluster.network.cut([leader.id], others)
        self._cluster.loop.after(self._delay(1500 * self._ms), self._cluster.network.heal)
        return "leader cut off"

    def _quarrel(self, rounds: int = 40) -> str:
        """Leaders that reach only a few, one after the other, over each other's logs (figure 3.7).

        Each round lets a leader speak to a minority for a moment, stops it, and lets somebody
        stand up among the others; those who were stopped come back with what they have.
        """
        cluster, rng = self._cluster, self._cluster.rng
        if self._over:
            return ""
        cluster.network.heal()
        everyone = sorted(cluster.servers)
        leader = cluster.leader()
        if leader is not None:
            others = [server for server in everyone if server != leader.id]
            rng.shuffle(others)
            few = [leader.id, *others[: rng.randrange(max(1, len(others) // 2))]]
            cluster.network.cut(few, [server for server in everyone if server not in few])
            cluster.propose(leader.id, "quarrel", rounds)
            if rng.random() < 0.5:
                cluster.loop.after(self._delay(5 * self._ms), self._blink, leader.id)
        if rounds:
            cluster.loop.after(self._delay(60 * self._ms), self._quarrel, rounds - 1)
        else:
            cluster.network.heal()
        return "quarrel"

    def _side_with_learners(self) -> str:
        """The leader reaches only those whose copies do not count (4.2.1)."""
        leader = self._cluster.leader()
        if leader is None or not leader.node.config.learners:
            return ""
        rest = leader.node.config.members - leader.node.config.learners - {leader.id}
        self._cluster.network.cut([leader.id], sorted(rest))
        self._cluster.loop.after(self._delay(800 * self._ms), self._cluster.network.heal)
        return "leader alone with learners"

    def _sleeper(self) -> str:
        """Somebody who has heard nothing for long meets somebody who has just restarted (6.4.1)."""
        cluster = self._cluster
        leader = cluster.leader()
        sleeper = self._any()
        if leader is None or sleeper == leader.id:
            return ""
        others = [server for server in sorted(cluster.servers) if server != leader.id]
        cluster.network.cut([sleeper], cluster.servers)

        def meet() -> None:
            cluster.network.heal()
            cluster.network.cut([leader.id], others)
            for other in others:
                if other != sleeper:
                    self._blink(other)

        cluster.loop.after(200 * self._ms, meet)
        cluster.loop.after(500 * self._ms, cluster.network.heal)
        return "sleeper among restarted"

    def _late_handover(self) -> str:
        """The message that hands leadership over arrives after the leader gave up on it (3.10)."""
        cluster = self._cluster
        leader = cluster.leader()
        target = self._any()
        if leader is None or leader.paused or target == leader.id:
            return ""
        others = [server for server in sorted(cluster.servers) if server != leader.id]
        late = 100 * self._ms + self._delay(100 * self._ms)
        cluster.network.clog(leader.id, target, late)
        if not self._ask(leader.id, "handed over", lambda node: node.transfer(target)):
            return ""
        deafen = cluster.network.cut
        cluster.loop.after(late, lambda: deafen(others, [leader.id], both=False))
        cluster.loop.after(late + 300 * self._ms, cluster.network.heal)
        return "late handover"

    def _newcomer(self) -> str:
        """A machine with an empty disk joins, as learner or as voter (4.2.1)."""
        cluster = self._cluster
        leader = cluster.leader()
        if leader is None or leader.paused or len(cluster.servers) >= _MACHINES_MAX:
            return ""
        config = leader.node.config
        fresh = cluster.add(max(cluster.servers) + 1).id
        votes = cluster.rng.random() < 0.5
        voters = config.voters | {fresh} if votes else config.voters
        learners = config.learners if votes else config.learners | {fresh}
        return self._ask(leader.id, "newcomer", lambda node: node.change_members(voters, learners))

    def _clog(self) -> str:
        self._cluster.network.clog(self._any(), self._any(), self._delay(300 * self._ms))
        return "clog"

    def _transfer(self) -> str:
        leader = self._cluster.leader()
        if leader is None or leader.paused:
            return ""
        target = self._any()
        return self._ask(leader.id, "transfer", lambda node: node.transfer(target))

    def _change(self) -> str:
        leader = self._cluster.leader()
        if leader is None or leader.paused:
            return ""
        rng = self._cluster.rng
        everyone = sorted(self._cluster.servers)
        share = rng.choice((0.4, 0.7))
        voters = [server for server in everyone if rng.random() < share] or everyone
        rest = [server for server in everyone if server not in voters]
        learners = [server for server in rest if rng.random() < 0.5]
        return self._ask(
            leader.id, "membership change", lambda node: node.change_members(voters, learners)
        )

    def _ask(self, server_id: int, name: str, action: Callable[..., object]) -> str:
        try:
            self._cluster.servers[server_id].act(action)
        except InvariantViolated:
            raise
        except LabkitError:
            return ""  # refused, which is an answer
        return name
