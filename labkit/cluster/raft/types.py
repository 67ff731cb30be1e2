"""The words of Raft: entries, configurations, messages.

Section numbers refer to Ongaro's dissertation, "Consensus: Bridging Theory and Practice" (2014);
figure 3.1 is the one-page summary, and `paper` means Ongaro and Ousterhout, USENIX ATC 2014.

All of these are immutable tuples: they are shared between simulated nodes and kept in traces.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

__all__ = [
    "NO_NODE",
    "Append",
    "AppendReply",
    "Config",
    "Entry",
    "EntryKind",
    "HardState",
    "InstallSnapshot",
    "Message",
    "NodeId",
    "ReadReady",
    "ReadRequest",
    "ReadResponse",
    "Role",
    "Snapshot",
    "SnapshotReply",
    "TimeoutNow",
    "Vote",
    "VoteReply",
]

NodeId: TypeAlias = int
NO_NODE: NodeId = 0
"""No leader known, no vote given. Node ids start at 1."""


class Role(IntEnum):
    """What a server is at the moment (figure 3.3, with pre-vote of section 9.6)."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class EntryKind(IntEnum):
    """What an entry carries: a command, nothing (a new leader's first, 6.4), a configuration."""

    COMMAND = 0
    NOOP = 1
    CONFIG = 2


class Entry(NamedTuple):
    """One slot of the log. `data` is opaque here, except in a CONFIG entry (a Config)."""

    index: int
    term: int
    kind: EntryKind
    data: Any


class Config(NamedTuple):
    """Who belongs to the cluster. During a change, `outgoing` are the voters of the old one.

    Joint consensus (4.3): while `outgoing` is not empty every decision needs a majority of
    `voters` and a majority of `outgoing`. `learners` receive the log and decide nothing (4.2.1).
    """

    voters: frozenset[NodeId]
    outgoing: frozenset[NodeId] = frozenset()
    learners: frozenset[NodeId] = frozenset()

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def members(self) -> frozenset[NodeId]:
        """Everybody who receives the log."""
        return self.voters | self.outgoing | self.learners

    def can_vote(self, node: NodeId) -> bool:
        return node in self.voters or node in self.outgoing


class HardState(NamedTuple):
    """What must be on disk before a message is sent (figure 3.1, "persistent state")."""

    term: int
    vote: NodeId


class Snapshot(NamedTuple):
    """The state up to and including `index`, in place of the log before it (chapter 5)."""

    index: int
    term: int
    config: Config
    data: bytes


class Vote(NamedTuple):
    """RequestVote (figure 3.1); `pre` asks whether one could win (9.6), before the term is spent.

    `transfer` says that the leader itself wanted this election (3.10), so that voters do not
    hold on to it.
    """

    term: int
    sender: NodeId
    last_index: int
    last_term: int
    pre: bool
    transfer: bool


class VoteReply(NamedTuple):
    """The answer to a Vote. `term` is the one asked for when granted, the voter's own when not."""

    term: int
    sender: NodeId
    granted: bool
    pre: bool


class Append(NamedTuple):
    """AppendEntries (figure 3.1); without entries it is a heartbeat.

    `round` numbers the leader's heartbeats: an answer to round n proves that the follower still
    accepted this leader after every read that was waiting when round n began (6.4).
    """

    term: int
    sender: NodeId
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


class AppendReply(NamedTuple):
    """Accepted up to `index`; or refused, with a hint where the logs may agree (3.5, end).

    When refused: `index` is the `prev_index` that did not match, `hint_index` an index at which
    the follower's term is `hint_term`, at most the leader's `prev_term`.
    """

    term: int
    sender: NodeId
    ok: bool
    index: int
    hint_index: int
    hint_term: int
    round: int


class InstallSnapshot(NamedTuple):
    """One chunk of a snapshot (figure 5.3). `offset` counts bytes; `done` marks the last chunk."""

    term: int
    sender: NodeId
    index: int
    index_term: int
    config: Config
    offset: int
    data: bytes
    done: bool
    round: int


class SnapshotReply(NamedTuple):
    """How many bytes of the snapshot at `index` have arrived; `done` when it is installed."""

    term: int
    sender: NodeId
    index: int
    offset: int
    done: bool
    round: int


class TimeoutNow(NamedTuple):
    """The leader asks the receiver to start an election at once (3.10)."""

    term: int
    sender: NodeId


class ReadRequest(NamedTuple):
    """A follower asks its leader for a read index on a client's behalf (6.4)."""

    term: int
    sender: NodeId
    context: Any


class ReadResponse(NamedTuple):
    """The leader's read index for `context`; -1 when it could not be confirmed."""

    term: int
    sender: NodeId
    context: Any
    index: int


class ReadReady(NamedTuple):
    """A read may be served as soon as the state machine has applied `index`."""

    context: Any
    index: int


Message: TypeAlias = (
    Vote
    | VoteReply
    | Append
    | AppendReply
    | InstallSnapshot
    | SnapshotReply
    | TimeoutNow
    | ReadRequest
    | ReadResponse
)
