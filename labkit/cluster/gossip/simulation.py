"""A group of any size in virtual time: how long until everybody knows?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.cluster.gossip.node import Gossip, GossipOptions
from labkit.cluster.gossip.types import Member, Status
from labkit.world.sim.loop import Loop
from labkit.world.sim.network import Link, Network
from labkit.world.sim.rng import seeded

__all__ = ["Convergence", "Group", "measure"]

MS = 1_000_000
SECOND = 1000 * MS


class Group:
    """`size` members who know each other, or who have yet to `meet`."""

    def __init__(
        self,
        size: int,
        seed: int = 0,
        *,
        link: Link | None = None,
        options: GossipOptions | None = None,
        acquainted: bool = True,
        tick_ns: int = 100 * MS,
    ) -> None:
        self.rng = seeded(seed)
        self.loop = Loop()
        self.tick_ns = tick_ns
        self.options = options
        self.network = Network(self.loop, self.rng, self._deliver, link or Link())
        self.members: dict[int, Gossip] = {}
        self.down: set[int] = set()
        everybody = {node: Member(node, 0, Status.ALIVE) for node in range(1, size + 1)}
        for node in everybody:
            member = self.add(node)
            if acquainted:
                member.members.update(everybody)

    def add(self, node: int) -> Gossip:
        """A new process on a new or an old machine."""
        member = self.members[node] = Gossip(node, self.rng, self.options)
        self.down.discard(node)
        self.loop.after(self.rng.randrange(self.tick_ns), self._tick, member)
        return member

    def kill(self, node: int) -> None:
        """It says nothing any more."""
        self.down.add(node)

    def run(self, seconds: float) -> None:
        self.loop.run_until(self.loop.now + int(seconds * SECOND))

    def until(self, holds: Callable[[], bool], limit_s: float = 300.0) -> float | None:
        """Run until something holds, looked at every 100 ms; the seconds it took, or None."""
        begin = self.loop.now
        while not holds():
            if self.loop.now - begin >= limit_s * SECOND:
                return None
            self.run(0.1)
        return (self.loop.now - begin) / SECOND

    def running(self) -> list[Gossip]:
        return [member for node, member in self.members.items() if node not in self.down]

    def _tick(self, member: Gossip) -> None:
        if member.id in self.down or self.members[member.id] is not member:
            return
        self.loop.after(self.tick_ns, self._tick, member)
        member.tick()
        self._carry(member)

    def _deliver(self, source: int, target: int, message: Any) -> None:  # noqa: ARG002
        member = self.members.get(target)
        if member is not None and target not in self.down:
            member.receive(message)
            self._carry(member)

    def _carry(self, member: Gossip) -> None:
        for target, message in member.take()[0]:
            self.network.send(member.id, target, message)

    def carry(self, node: int) -> None:
        """Send what a call from outside has left to send."""
        self._carry(self.members[node])


@dataclass(frozen=True, slots=True)
class Convergence:
    """Seconds of virtual time; None where it did not happen within five minutes."""

    size: int
    endpoint_everywhere_s: float | None
    death_noticed_s: float | None
    death_everywhere_s: float | None
    newcomer_everywhere_s: float | None
    messages_per_node_second: float


def measure(size: int, seed: int = 0, loss: float = 0.01) -> Convergence:
    """One endpoint is published, one node dies, one joins: how long until everybody knows?"""
    group = Group(size, seed, link=Link(500_000, 500_000, loss=loss))
    group.run(2.0)
    group.members[1].put("web.1", "10.0.0.3")
    endpoint = group.until(lambda: all(m.table.get("web.1") for m in group.running()))
    victim = size
    group.kill(victim)

    def known(status: Status, quorum: Callable[[Any], bool]) -> Callable[[], bool]:
        return lambda: quorum(m.members[victim].status is status for m in group.running())

    noticed = group.until(known(Status.SUSPECT, any))
    dead = group.until(known(Status.DEAD, all))
    total = None if noticed is None or dead is None else noticed + dead
    newcomer = size + 1
    group.add(newcomer).join([1])
    group.carry(newcomer)
    joined = group.until(lambda: all(newcomer in m.members for m in group.running()))
    seconds = group.loop.now / SECOND
    return Convergence(
        size, endpoint, noticed, total, joined, group.network.sent / size / max(seconds, 1e-9)
    )
