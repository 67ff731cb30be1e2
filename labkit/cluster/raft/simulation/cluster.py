"""A simulated cluster: one seed decides everything that happens to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from labkit.base.errors import LabkitError
from labkit.cluster.raft.journal import Recovered
from labkit.cluster.raft.node import Node, Options
from labkit.cluster.raft.reads import UNCONFIRMED
from labkit.cluster.raft.simulation.judge import Judge
from labkit.cluster.raft.simulation.server import Server
from labkit.cluster.raft.types import Config, Entry, Message, NodeId, ReadReady, Role
from labkit.world.ports import Rng
from labkit.world.sim.loop import Loop
from labkit.world.sim.network import Link, Network

__all__ = ["Cluster", "Settings"]

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What the world is like. Times in nanoseconds, `drift` as a fraction of a clock's speed."""

    servers: int = 3
    tick_ns: int = 10 * MS
    drift: float = 0.0
    sync_ns: int = 1 * MS
    sync_stall: float = 0.0
    """Probability that a sync takes a hundred times as long."""
    link: Link = field(default_factory=Link)
    options: Options = field(default_factory=Options)
    compact_after: int = 0
    """Entries after which a server snapshots; 0 never."""
    compact_keep: int = 0
    judge_every: int = 1
    """Servers are compared with the promises at one event in so many; what they apply always."""
    node_type: type[Node] = Node
    """The implementation under test; the planted bugs are subclasses."""


class Cluster:
    """Servers 1 … n on one network, with one agenda and one source of chance."""

    def __init__(self, rng: Rng, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.rng = rng
        self.loop = Loop()
        self.network = self.make_network()
        self.judge = Judge(self.loop.now_ns)
        self.events = 0
        self.bad_messages = 0
        first = frozenset(range(1, self.settings.servers + 1))
        self.first_config = Config(first)
        self._speed: dict[NodeId, float] = {}
        self._waiting: dict[tuple[int, int], Any] = {}
        self._reads: dict[int, tuple[int, Any]] = {}
        self._unserved: dict[NodeId, list[tuple[int, Any]]] = {}
        self._read_number = 0
        self.servers: dict[NodeId, Server] = {}
        for server_id in sorted(first):
            self.add(server_id)

    def add(self, server_id: NodeId) -> Server:
        """A new machine comes up with an empty disk."""
        drift = self.settings.drift
        self._speed[server_id] = 1.0 + (drift * (2 * self.rng.random() - 1) if drift else 0.0)
        server = self.servers[server_id] = self.make_server(server_id)
        server.boot()
        return server

    def make_network(self) -> Network:
        """What carries the messages."""
        return Network(self.loop, self.rng, self._deliver, self.settings.link)

    def make_server(self, server_id: NodeId) -> Server:
        """A machine that is switched off."""
        return Server(self, server_id)

    def make_node(self, server_id: NodeId, found: Recovered) -> Node:
        """A node as the disk describes it."""
        return self.settings.node_type(
            server_id,
            self.first_config,
            self.rng,
            self.settings.options,
            hard_state=found.hard_state,
            snapshot=found.snapshot,
            entries=found.entries,
        )

    # -- time and disks --------------------------------------------------

    def tick_ns(self, server_id: NodeId) -> int:
        """How long this server's next tick is; its clock runs at a speed of its own."""
        return int(self.settings.tick_ns * self._speed[server_id])

    def sync_ns(self) -> int:
        """How long a disk takes to sync this time."""
        settings = self.settings
        if settings.sync_stall and self.rng.random() < settings.sync_stall:
            return settings.sync_ns * 100
        return int(settings.sync_ns * (0.5 + self.rng.random()))

    def run(self, duration_ns: int) -> None:
        """Let the world go on for this long."""
        self.loop.run_until(self.loop.now + duration_ns)

    def _deliver(self, source: NodeId, target: NodeId, message: Message) -> None:  # noqa: ARG002
        server = self.servers.get(target)
        if server is not None:
            server.receive(message)

    # -- what clients do --------------------------------------------------

    def leader(self) -> Server | None:
        """The running leader of the highest term, if any."""
        found = [s for s in self.servers.values() if s.up and s.node.role is Role.LEADER]
        return max(found, key=lambda s: s.node.term) if found else None

    def propose(self, server_id: NodeId, key: str, value: Any, done: Any = None) -> bool:
        """A client writes through one server. `done()` is called when it is acknowledged.

        False when the server refuses, which is definite: nothing will happen.
        """
        server = self.servers[server_id]
        if not server.up or server.paused:
            return False
        try:
            index: int = server.act(lambda node: node.propose((key, value)))
        except LabkitError:
            return False
        self._waiting[server_id, index] = (server.node.term, done)
        return True

    def entry_applied(self, server: Server, entry: Entry) -> None:
        """The server that a client asked tells it, once the entry is applied there."""
        if server.id in self._unserved:
            self._serve_reads(server)
        waiting = self._waiting.pop((server.id, entry.index), None)
        if waiting is None:
            return
        term, done = waiting
        if entry.term == term:
            self.judge.acknowledged = max(self.judge.acknowledged, entry.index)
            if done is not None:
                done()

    def read(self, server_id: NodeId, done: Any = None) -> bool:
        """A linearizable read through one server; `done(state)` gets its state when confirmed."""
        server = self.servers[server_id]
        if not server.up or server.paused:
            return False
        self._read_number += 1
        number = self._read_number
        self._reads[number] = (self.judge.acknowledged, done)
        try:
            server.act(lambda node: node.read(number))
        except LabkitError:
            del self._reads[number]
            return False
        return True

    def reads_ready(self, server: Server, ready: Iterable[ReadReady]) -> None:
        """Reads that were confirmed, or could not be."""
        for read in ready:
            began, done = self._reads.pop(read.context, (0, None))
            if read.index == UNCONFIRMED:
                continue
            self.judge.read_confirmed(began, read.index)
            if done is None:
                continue
            if server.applied >= read.index:
                done(server.state)
            else:
                self._unserved.setdefault(server.id, []).append((read.index, done))

    def _serve_reads(self, server: Server) -> None:
        waiting = self._unserved.pop(server.id)
        for index, done in waiting:
            if server.applied >= index:
                done(server.state)
            else:
                self._unserved.setdefault(server.id, []).append((index, done))

    # -- what happens to it --------------------------------------------------

    def crash(self, server_id: NodeId) -> None:
        """Pull the plug. Reads that waited there are never answered."""
        self._unserved.pop(server_id, None)
        self.servers[server_id].crash()

    def restart(self, server_id: NodeId) -> None:
        """Come up again, with the disk as the crash left it."""
        server = self.servers[server_id]
        if not server.up:
            server.boot()

    def with_settings(self, **changes: Any) -> None:
        """Change the weather: sync times, stalls, compaction."""
        self.settings = dataclasses.replace(self.settings, **changes)
