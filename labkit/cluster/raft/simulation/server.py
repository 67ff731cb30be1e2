"""One simulated server: a Raft node, its disk, its state machine, and the care that joins them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.cluster.raft import journal
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.errors import BadMessage
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.types import EntryKind, HardState, Message, NodeId, Snapshot
from labkit.world.sim.disk import SimDisk

if TYPE_CHECKING:
    from labkit.cluster.raft.simulation.cluster import Cluster

__all__ = ["Server"]


class Server:
    """Drives one Node as a real host would: write, sync, then send, then apply.

    While a sync is on its way further events are handled and gather into the next batch, which is
    group commit; a crash in that window loses what was not synced.
    """

    __slots__ = (
        "_flushing",
        "_generation",
        "applied",
        "cluster",
        "disk",
        "id",
        "missed_ticks",
        "node",
        "paused",
        "state",
        "up",
    )

    def __init__(self, cluster: Cluster, server_id: NodeId) -> None:
        self.cluster = cluster
        self.id = server_id
        self.disk = SimDisk()
        self.up = False
        self.paused = False
        self.missed_ticks = 0
        self._generation = 0
        self._flushing = False
        self.node: Node = cluster.make_node(server_id, journal.recover(self.disk))
        self.state: dict[str, Any] = {}
        """The state machine: a map from keys to values."""
        self.applied = 0

    # -- life --------------------------------------------------

    def boot(self) -> None:
        """Come up with what the disk holds."""
        found = journal.recover(self.disk)
        self.node = self.cluster.make_node(self.id, found)
        self._generation += 1
        self._flushing = False
        self.up, self.paused, self.missed_ticks = True, False, 0
        self.state, self.applied = {}, 0
        if found.snapshot is not None:
            self._restore(found.snapshot)
        self.cluster.judge.booted(self)
        self.cluster.loop.after(self.cluster.tick_ns(self.id), self._tick, self._generation)

    def crash(self) -> None:
        """Stop at once; the disk loses some of what was not synced."""
        if self.up:
            self.up = False
            self._generation += 1
            self.disk.crash(self.cluster.rng)
            self.cluster.judge.crashed(self)

    # -- events --------------------------------------------------

    def _tick(self, generation: int) -> None:
        if generation != self._generation:
            return
        self.cluster.loop.after(self.cluster.tick_ns(self.id), self._tick, generation)
        if self.paused:
            self.missed_ticks += 1
        else:
            self.cluster.events += 1
            self.advance()
            self.pump()

    def advance(self) -> None:
        """One tick of this server's time."""
        self.node.tick()

    def pause(self) -> None:
        """Stand still: no ticks, no messages."""
        self.paused = True

    def resume(self) -> None:
        """Go on after a pause; a real driver sees on its clock how long it stood still."""
        if self.paused:
            self.paused = False
            self.node.slept(self.missed_ticks + 1)
            self.missed_ticks = 0

    def receive(self, message: Message) -> None:
        """A message arrives; a stopped or paused server does not hear it."""
        if not self.up or self.paused:
            return
        self.cluster.events += 1
        try:
            self.node.receive(message)
        except BadMessage:
            self.cluster.bad_messages += 1
        self.pump()

    def act(self, action: Callable[[Node], Any]) -> Any:
        """Let a client or an operator do something to the node; errors are theirs."""
        try:
            return action(self.node)
        finally:
            self.cluster.events += 1
            self.pump()

    def pump(self) -> None:
        """Carry out what was decided, unless a write is still on its way."""
        cluster = self.cluster
        if not cluster.events % cluster.settings.judge_every:
            cluster.judge.observe(self)
        if self._flushing:
            return
        effects = self.node.take()
        if not effects:
            return
        if effects.must_sync:
            journal.write(self.disk, effects)
            self._flushing = True
            self.cluster.loop.after(self.cluster.sync_ns(), self._synced, effects, self._generation)
        else:
            self._finish(effects)

    def _synced(self, effects: Effects, generation: int) -> None:
        if generation != self._generation:
            return
        self._flushing = False
        self.disk.sync()
        self._finish(effects)
        self.pump()

    def _finish(self, effects: Effects) -> None:
        send = self.cluster.network.send
        for target, message in effects.messages:
            send(self.id, target, message)
        if effects.snapshot is not None:
            self._restore(effects.snapshot)
        for entry in effects.committed:
            self.cluster.judge.applied(self, entry)
            self.applied = entry.index
            if entry.kind is EntryKind.COMMAND:
                self.apply(entry.data)
            self.cluster.entry_applied(self, entry)
        if effects.reads:
            self.cluster.reads_ready(self, effects.reads)
        limit = self.cluster.settings.compact_after
        if limit and self.applied - self.node.log.snapshot_index >= limit:
            self._compact()

    # -- the state machine --------------------------------------------------

    def apply(self, command: Any) -> None:
        """A committed command: a key and its value."""
        key, value = command[:2]
        self.state[key] = value

    def save(self) -> bytes:
        """The whole state, for a snapshot."""
        return repr(sorted(self.state.items())).encode()

    def load(self, data: bytes) -> None:
        """The state that `save` has written."""
        self.state = dict(ast.literal_eval(data.decode())) if data else {}

    # -- snapshots --------------------------------------------------

    def _compact(self) -> None:
        node = self.node
        term = node.log.term_at(self.applied)
        if term is None:
            return
        config = next(c for i, c in reversed(node.config_history) if i <= self.applied)
        snapshot = Snapshot(self.applied, term, config, self.save())
        node.compact(snapshot, keep=self.cluster.settings.compact_keep)
        last = node.log.last_index
        # Entries that wait for their own sync are in the node but not on this disk yet.
        pending = {entry.index for entry in node.effects.entries}
        following = [
            entry
            for entry in node.log.slice(self.applied + 1, last + 1)
            if entry.index not in pending
        ]
        found = journal.recover(self.disk)
        state = found.hard_state or HardState(0, 0)
        if not self._flushing:
            journal.compact(self.disk, state, snapshot, following)

    def _restore(self, snapshot: Snapshot) -> None:
        self.load(snapshot.data)
        self.applied = snapshot.index
        self.cluster.judge.restored(self, snapshot)
