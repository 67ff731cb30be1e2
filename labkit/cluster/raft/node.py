"""One Raft server as a pure state machine: events in, Effects out.

It never sleeps, sends, reads a clock or rolls dice of its own: time is `tick()`, the network is
`receive()`, chance is the generator it is given. What happens in elections, replication, reads
and membership changes is in the modules of those names; this one keeps the state, the rule about
terms, and the order of effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft import election, membership, reads, replication
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.errors import BadMessage, NotLeader, TransferInProgress
from labkit.cluster.raft.log import Log
from labkit.cluster.raft.progress import Progress
from labkit.cluster.raft.types import (
    NO_NODE,
    Append,
    AppendReply,
    Config,
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    Message,
    NodeId,
    ReadRequest,
    ReadResponse,
    Role,
    Snapshot,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)

__all__ = ["Dice", "Node", "Options"]


_ASK_AGAIN_TICKS = 2


class Dice(Protocol):
    """Where randomness comes from (a part of the world's Rng port)."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to `stop - 1`, each as likely."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a server behaves. Times are in ticks; the driver says how long a tick is.

    `election_ticks`: without a leader's word for this long (up to twice, at random) a server
    stands for election. Too low: elections during a slow disk write. Too high: long outages.
    `heartbeat_ticks`: how often a leader speaks when it has nothing to say; well below the former.
    `pre_vote` (9.6): ask whether one could win before disturbing anybody with a higher term.
    `check_quorum` (6.2): a leader that hears from no majority steps down.
    `lease_ticks` (6.4.1): reads without a round of messages for this long after a majority
    answered; 0 switches leases off. Must stay below `election_ticks` by the clocks' worst drift.
    `entries_per_message_max`, `inflight_max`: bounds on what is sent ahead of the answers.
    `snapshot_chunk_bytes`: size of one InstallSnapshot.
    """

    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    lease_ticks: int = 0
    entries_per_message_max: int = 64
    inflight_max: int = 16
    snapshot_chunk_bytes: int = 65536

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_ticks < self.election_ticks:
            raise InvalidParameter(
                f"heartbeat_ticks ({self.heartbeat_ticks}) must be positive and below "
                f"election_ticks ({self.election_ticks})"
            )
        if self.lease_ticks and not (
            self.check_quorum and 0 < self.lease_ticks < self.election_ticks
        ):
            raise InvalidParameter(
                "lease_ticks needs check_quorum and must be below election_ticks"
            )
        if min(self.entries_per_message_max, self.inflight_max, self.snapshot_chunk_bytes) < 1:
            raise InvalidParameter("message bounds must be at least 1")


class Node:
    """A server. Give it events; take its Effects after each, or after several."""

    __slots__ = (
        "_applied",
        "_dice",
        "_effects",
        "_saved",
        "commit",
        "config",
        "config_history",
        "elapsed",
        "election_timeout",
        "granted",
        "heartbeat_elapsed",
        "id",
        "incoming",
        "leader",
        "log",
        "options",
        "peers",
        "quiet_until",
        "reads_waiting",
        "refused",
        "request",
        "role",
        "round",
        "round_ticks",
        "snapshot",
        "term",
        "ticks",
        "transferee",
        "transfers",
        "vote",
    )

    def __init__(
        self,
        node_id: NodeId,
        config: Config,
        dice: Dice,
        options: Options | None = None,
        *,
        hard_state: HardState | None = None,
        snapshot: Snapshot | None = None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """A server as it comes up: fresh with the cluster's first `config`, or from its disk.

        `entries` are those on disk after the snapshot. Raises InvalidParameter when the disk's
        content contradicts itself.
        """
        if node_id == NO_NODE:
            raise InvalidParameter("node ids start at 1")
        self.id = node_id
        self.options = options or Options()
        self._dice = dice
        state = hard_state or HardState(0, NO_NODE)
        self.term, self.vote = state
        self.snapshot = snapshot
        base = snapshot.index if snapshot else 0
        self.log = Log(
            [entry for entry in entries if entry.index > base],
            snapshot_index=base,
            snapshot_term=snapshot.term if snapshot else 0,
        )
        if self.log.last_term > self.term:
            raise InvalidParameter(
                f"the disk holds an entry of term {self.log.last_term} but says term {self.term}"
            )
        self.config = snapshot.config if snapshot else config
        self.config_history: list[tuple[int, Config]] = [(base, self.config)]
        """Where each configuration of the log begins, the oldest first (4.1: the latest one in
        the log counts, committed or not, so a truncation must find the one before)."""
        membership.replay(self)
        self.commit = base
        self._applied = base
        self.role = Role.FOLLOWER
        self.leader: NodeId = NO_NODE
        self.peers: dict[NodeId, Progress] = {}
        self.granted: set[NodeId] = set()
        self.refused: set[NodeId] = set()
        self.request = Vote(0, node_id, 0, 0, False, False)
        """What it last asked the voters, while it stands for election."""
        self.transferee: NodeId = NO_NODE
        self.transfers = 0
        """How often this leader asked somebody to take over (3.10); no lease after the first."""
        self.ticks = 0
        self.elapsed = 0
        # A leader may hold a lease that this server granted before it went down (6.4.1), and
        # nothing on the disk says so: it must stay silent for as long as the promise could last.
        forgotten = self.options.lease_ticks and self.term > 0
        self.quiet_until = self.options.election_ticks if forgotten else 0
        """No vote before this tick: a leader has been heard (4.2.3), or may have been."""
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        self.round = 0
        self.round_ticks: dict[int, int] = {}
        self.reads_waiting: list[reads.Waiting] = []
        self.incoming: replication.Incoming | None = None
        self._effects = Effects()
        self._saved = HardState(self.term, self.vote)
        self.draw_timeout()

    # -- events ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """One unit of time has passed."""
        self.ticks += 1
        self.elapsed += 1
        if self.role is Role.LEADER:
            replication.leader_tick(self)
        elif self.elapsed >= self.election_timeout:
            self.elapsed = 0
            if membership.may_stand(self):
                election.campaign(self)
        elif self.role is not Role.FOLLOWER and not self.elapsed % _ASK_AGAIN_TICKS:
            election.ask_again(self)

    def slept(self, ticks: int) -> None:
        """The driver stood still for this long and gives no ticks for it: leases run out."""
        self.ticks += ticks

    def receive(self, message: Message) -> None:
        """A message has arrived, of one of the types in `Message` (see `wire.py` for strangers).

        Raises BadMessage when it is none that a server sends; nothing has changed then.
        """
        handler = _HANDLERS.get(type(message))
        if handler is None or message.sender in (NO_NODE, self.id) or message.term < 0:
            raise BadMessage(f"node {self.id} cannot make sense of {message!r}")
        if isinstance(message, Append) and message.entries:
            replication.check_entries(message)
        if message.term != self.term and not election.settle_term(self, message):
            return
        handler(self, message)

    def propose(self, *commands: Any) -> int:
        """Append commands to the log; returns the index of the last. It is not committed yet.

        Raises NotLeader or TransferInProgress; nothing was appended then.
        """
        self.require_leader()
        for command in commands:
            self.append(EntryKind.COMMAND, command)
        replication.broadcast(self)
        return self.log.last_index

    def change_members(self, voters: Iterable[NodeId], learners: Iterable[NodeId] = ()) -> int:
        """Begin a change to these voters and learners, through joint consensus (4.3).

        Returns the index of the joint configuration; the final one follows by itself. Raises
        NotLeader, ChangeInProgress, or InvalidParameter for an empty set of voters.
        """
        return membership.change(self, frozenset(voters), frozenset(learners))

    def read(self, context: Any) -> None:
        """Ask for a linearizable read; the answer comes as a ReadReady effect (6.4).

        On a follower the request goes to the leader. Raises NotLeader when none is known.
        """
        reads.request(self, context)

    def campaign(self) -> None:
        """Stand for election now instead of waiting for one's patience to end.

        For a new cluster, which has no leader to wait for; safe at any time (3.4). Nothing happens
        on a leader, or where this server may not stand.
        """
        if self.role is not Role.LEADER and membership.may_stand(self):
            election.campaign(self)

    def transfer(self, target: NodeId) -> None:
        """Hand leadership to `target` (3.10). Raises NotLeader or InvalidParameter."""
        election.transfer(self, target)

    def compact(self, snapshot: Snapshot, *, keep: int = 0) -> None:
        """The driver has saved a snapshot of its state machine at an applied index (5.1).

        `keep` entries before it stay in the log for followers that are only a little behind.
        Raises InvalidParameter for an index that is not applied.
        """
        replication.compact(self, snapshot, keep)

    def unreachable(self, peer: NodeId) -> None:
        """The transport says that messages to `peer` were lost: probe before sending ahead."""
        progress = self.peers.get(peer)
        if progress is not None:
            replication.lost(progress)

    def take(self) -> Effects:
        """Everything decided since the last call; the driver now owes its execution."""
        effects = self._effects
        if self.term != self._saved.term or self.vote != self._saved.vote:
            self._saved = effects.hard_state = HardState(self.term, self.vote)
        if self.commit > self._applied:
            effects.committed = self.log.slice(self._applied + 1, self.commit + 1)
            self._applied = self.commit
        if not effects:
            return effects
        self._effects = Effects()
        return effects

    # -- shared by the modules -------------------------------------------------------------------

    @property
    def applied(self) -> int:
        """The last index handed out for application."""
        return self._applied

    @property
    def effects(self) -> Effects:
        return self._effects

    def send(self, to: NodeId, message: Message) -> None:
        """Queue one message; it leaves after the disk write of the same batch."""
        self._effects.messages.append((to, message))

    def append(self, kind: EntryKind, data: Any) -> Entry:
        """Append one entry of the present term to the own log (a leader never overwrites, 3.6)."""
        entry = Entry(self.log.last_index + 1, self.term, kind, data)
        self.log.append(entry)
        self._effects.entries.append(entry)
        if kind is EntryKind.CONFIG:
            membership.adopt(self, entry.index, data)
        if len(self.config.voters) == 1:
            replication.maybe_commit(self)
        return entry

    def adopt_entries(self, entries: tuple[Entry, ...]) -> None:
        """Append a leader's entries; whatever conflicts from the first index on is replaced."""
        first = entries[0].index
        if first <= self.log.last_index:
            self.log.truncate_from(first)
            membership.forget_from(self, first)
            kept = self._effects.entries
            while kept and kept[-1].index >= first:
                kept.pop()
        for entry in entries:
            self.log.append(entry)
            if entry.kind is EntryKind.CONFIG:
                membership.adopt(self, entry.index, entry.data)
        self._effects.entries.extend(entries)

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the state machine and the log by a snapshot from the leader (figure 5.3)."""
        self.snapshot = snapshot
        if self.log.term_at(snapshot.index) == snapshot.term:
            # The log reaches further and agrees: what follows the snapshot stays (step 6).
            self.log.compact_to(snapshot.index)
            membership.compact(self, snapshot.index)
            kept = self._effects.entries
            self._effects.entries = [entry for entry in kept if entry.index > snapshot.index]
        else:
            self.log.restore(snapshot.index, snapshot.term)
            self.config = snapshot.config
            self.config_history = [(snapshot.index, snapshot.config)]
            self._effects.entries.clear()
        self.commit = self._applied = snapshot.index
        self._effects.snapshot = snapshot

    def draw_timeout(self) -> None:
        """A fresh election timeout between one and two `election_ticks` (3.4)."""
        self.election_timeout = self.options.election_ticks + self._dice.randrange(
            self.options.election_ticks
        )

    def require_leader(self) -> None:
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)
        if self.transferee != NO_NODE:
            raise TransferInProgress(
                f"leadership is being handed to node {self.transferee}", hint="try again shortly"
            )


_HANDLERS: dict[type, Callable[[Node, Any], None]] = {
    Vote: election.on_vote,
    VoteReply: election.on_vote_reply,
    TimeoutNow: election.on_timeout_now,
    Append: replication.on_append,
    AppendReply: replication.on_append_reply,
    InstallSnapshot: replication.on_install_snapshot,
    SnapshotReply: replication.on_snapshot_reply,
    ReadRequest: reads.on_request,
    ReadResponse: reads.on_response,
}
