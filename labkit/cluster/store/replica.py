"""One member of the store: a Raft node, its state machine, and the requests that wait on them.

A driver gives it ticks, messages and requests; takes a batch with `take`, makes its durable part
durable, sends its messages, and hands it to `finish`, which applies what is committed and returns
the replies that are due.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from labkit.base.errors import LabkitError
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.reads import UNCONFIRMED
from labkit.cluster.raft.types import Entry, EntryKind, Message, Role, Snapshot
from labkit.cluster.store.commands import Command, Once, Range, Revoke, pack, unpack
from labkit.cluster.store.errors import Indefinite, NoSuchLease, Overtaken
from labkit.cluster.store.machine import Machine
from labkit.cluster.store.results import Result
from labkit.cluster.store.watching import Notice, Watches

__all__ = ["Replica", "Reply"]


class Reply(NamedTuple):
    """The answer to the request of that name."""

    request: Hashable
    answer: Result | LabkitError


class Replica:
    """Wraps a Node that comes from the disk; `snapshot` of it is restored at once."""

    def __init__(self, node: Node, *, snapshot_every: int = 10_000, keep: int = 1_000) -> None:
        """`snapshot_every` entries the log is replaced by a snapshot, `keep` entries stay."""
        self.node = node
        self.machine = Machine.restore(node.snapshot.data if node.snapshot else b"")
        self.applied = node.applied
        self._snapshot_every = snapshot_every
        self._keep = keep
        self._ticks = 0
        self._waiting: dict[int, tuple[int, Hashable]] = {}
        """Log index → (term, request)."""
        self._reading: dict[Any, tuple[Hashable, Range]] = {}
        self._confirmed: list[tuple[int, Hashable, Range]] = []
        self._overdue: list[Reply] = []
        self._reads = 0
        self._deadlines: dict[int, int] = {}
        self._revoking: set[int] = set()
        self._term = 0
        self.watches = Watches()

    # -- events --------------------------------------------------

    def tick(self) -> None:
        """One unit of time; a leader also ends the leases that have run out."""
        self._ticks += 1
        self.node.tick()
        if self.node.role is Role.LEADER:
            self._end_leases()

    def receive(self, message: Message) -> None:
        """A message from another member. Raises what Node.receive raises."""
        self.node.receive(message)

    def submit(self, request: Hashable, command: Command) -> None:
        """Ask for a command to be replicated; the Reply comes from a later `finish`.

        Raises NotLeader or TransferInProgress, both definite.
        """
        index = self.node.propose(pack(command))
        if index in self._waiting:  # from an earlier time in office; that entry is overwritten here
            self._overdue.append(self._unknown(index))
        self._waiting[index] = (self.node.term, request)

    def query(self, request: Hashable, wanted: Range) -> None:
        """A linearizable read, on any member. Raises NotLeader when no leader is known."""
        self._reads += 1
        # Numbers alone would repeat after a restart, and an old answer would be taken for a new.
        context = f"{self.node.id}.{self.node.term}.{self.applied}.{self._reads}"
        self._reading[context] = (request, wanted)
        try:
            self.node.read(context)
        except LabkitError:
            del self._reading[context]
            raise

    def give_up(self, request: Hashable) -> None:
        """Nobody waits for this reply any more."""
        self._waiting = {i: w for i, w in self._waiting.items() if w[1] != request}
        self._reading = {c: r for c, r in self._reading.items() if r[0] != request}

    def keep_alive(self, lease: int) -> None:
        """Start a lease over. Only the leader keeps its time: raises NotLeader or NoSuchLease."""
        self.node.require_leader()
        if lease not in self.machine.leases or lease in self._revoking:
            raise NoSuchLease(f"there is no lease {lease}")
        self._deadlines[lease] = self._ticks + self.machine.leases[lease]

    # -- effects --------------------------------------------------

    def take(self) -> Effects:
        """The next batch."""
        return self.node.take()

    def finish(self, effects: Effects) -> list[Reply]:
        """The batch is durable and its messages are sent: apply it, and answer."""
        replies, self._overdue = self._overdue, []
        if effects.snapshot is not None:
            self.machine = Machine.restore(effects.snapshot.data)
            self.applied = effects.snapshot.index
            lost = [index for index in self._waiting if index <= self.applied]
            replies += [self._unknown(index) for index in lost]
        for entry in effects.committed:
            self._apply(entry, replies)
        for ready in effects.reads:
            reading = self._reading.pop(ready.context, None)
            if reading is None:
                continue
            if ready.index == UNCONFIRMED:
                error = Indefinite("the leader changed while reading", hint="read again")
                replies.append(Reply(reading[0], error))
            else:
                self._confirmed.append((ready.index, *reading))
        if self._confirmed:
            self._serve(replies)
        return replies

    def notices(self) -> list[Notice]:
        """What the watches of this member have to be told; ask after each `finish`."""
        return self.watches.due(self.machine)

    def snapshot(self) -> Snapshot | None:
        """When the log has grown enough: the snapshot to save in its place, already in force.

        The driver writes it durably before the batch that follows.
        """
        node = self.node
        if self.applied - node.log.snapshot_index < self._snapshot_every + self._keep:
            return None
        term = node.log.term_at(self.applied)
        if term is None:
            return None
        config = next(c for i, c in reversed(node.config_history) if i <= self.applied)
        made = Snapshot(self.applied, term, config, self.machine.snapshot())
        node.compact(made, keep=self._keep)
        return made

    def _apply(self, entry: Entry, replies: list[Reply]) -> None:
        self.applied = entry.index
        answer: Result | LabkitError = Result(self.machine.revision)
        if entry.kind is EntryKind.COMMAND:
            try:
                command = unpack(entry.data)
            except LabkitError as error:
                answer = error  # the same on every member
            else:
                answer = self.machine.apply(command)
                if isinstance(command, Once):
                    command = command.command
                if isinstance(command, Revoke):
                    self._deadlines.pop(command.lease, None)
                    self._revoking.discard(command.lease)
        waiting = self._waiting.pop(entry.index, None)
        if waiting is not None:
            term, request = waiting
            if term != entry.term:
                answer = Overtaken("another leader took over", hint="try again")
            replies.append(Reply(request, answer))

    def _unknown(self, index: int) -> Reply:
        error = Indefinite("a new leader replaced the log", hint="read, then decide")
        return Reply(self._waiting.pop(index)[1], error)

    def _serve(self, replies: list[Reply]) -> None:
        still = []
        for index, request, wanted in self._confirmed:
            if index > self.applied:
                still.append((index, request, wanted))
                continue
            try:
                replies.append(Reply(request, self.machine.range(wanted)))
            except LabkitError as error:
                replies.append(Reply(request, error))
        self._confirmed = still

    # -- leases --------------------------------------------------

    def _end_leases(self) -> None:
        """Lease time is the leader's; a new leader gives every lease its whole length again."""
        if self._term != self.node.term:
            self._term = self.node.term
            self._deadlines.clear()
            self._revoking.clear()
        for lease, ttl in self.machine.leases.items():
            deadline = self._deadlines.setdefault(lease, self._ticks + ttl)
            if deadline <= self._ticks and lease not in self._revoking:
                try:
                    self.node.propose(pack(Revoke(lease)))
                except LabkitError:
                    return  # handing over: the next leader counts anew
                self._revoking.add(lease)
