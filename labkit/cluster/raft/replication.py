"""Replication: the leader's log becomes everybody's (dissertation 3.5, 3.6, chapter 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft import election, membership, reads
from labkit.cluster.raft.errors import BadMessage, InvariantViolated, RestoredDisk
from labkit.cluster.raft.progress import Flow, Progress
from labkit.cluster.raft.quorum import agreed_index, has_quorum
from labkit.cluster.raft.types import (
    NO_NODE,
    Append,
    AppendReply,
    Entry,
    InstallSnapshot,
    NodeId,
    Role,
    Snapshot,
    SnapshotReply,
)

if TYPE_CHECKING:
    from labkit.cluster.raft.node import Node

__all__ = [
    "Incoming",
    "broadcast",
    "check_entries",
    "compact",
    "heartbeat",
    "leader_tick",
    "lost",
    "maybe_commit",
    "on_append",
    "on_append_reply",
    "on_install_snapshot",
    "on_snapshot_reply",
    "send_append",
]


class Incoming:
    """A snapshot that is arriving in chunks."""

    __slots__ = ("data", "index", "term")

    def __init__(self, index: int, term: int) -> None:
        self.index = index
        self.term = term
        self.data = bytearray()


# -- the leader's side ---------------------------------------------------------------------------


def leader_tick(node: Node) -> None:
    """A leader counts who still answers (6.2) and speaks up when it has been silent (3.4)."""
    node.heartbeat_elapsed += 1
    if node.elapsed >= node.options.election_ticks:
        node.elapsed = 0
        node.transferee = NO_NODE  # it had its time (3.10)
        if node.options.check_quorum:
            active = {peer for peer, progress in node.peers.items() if progress.recent_active}
            active.add(node.id)
            if not has_quorum(node.config, active):
                election.become_follower(node, node.term, NO_NODE)
                return
            for progress in node.peers.values():
                progress.recent_active = False
    if node.heartbeat_elapsed >= node.options.heartbeat_ticks:
        heartbeat(node)


def heartbeat(node: Node) -> None:
    """Begin a new round: everybody hears from the leader, whatever is already on its way."""
    node.heartbeat_elapsed = 0
    node.round += 1
    node.round_ticks[node.round] = node.ticks
    for peer, progress in node.peers.items():
        progress.probe_sent = False
        send_append(node, peer, progress, force=True)


def broadcast(node: Node) -> None:
    """Send what is new to everybody who may be sent more."""
    for peer, progress in node.peers.items():
        send_append(node, peer, progress)


def send_append(node: Node, peer: NodeId, progress: Progress, *, force: bool = False) -> None:
    """Send the next entries, or the next piece of a snapshot.

    Without `force` nothing is sent that has nothing new to say or would exceed the flow's bounds.
    """
    if progress.flow is Flow.SNAPSHOT:
        if force:
            _send_chunk(node, peer, progress)
        return
    log = node.log
    following = progress.next
    prev_term = log.term_at(following - 1)
    if prev_term is None:
        _begin_snapshot(node, peer, progress)
        return
    is_full = len(progress.inflight) >= node.options.inflight_max
    if progress.flow is Flow.PROBE:
        is_full = progress.probe_sent
    last = log.last_index
    if not force and (is_full or following > last):
        return
    stop = following if is_full else min(last, following + node.options.entries_per_message_max - 1)
    entries = log.slice(following, stop + 1) if not is_full and following <= last else ()
    node.send(
        peer,
        Append(node.term, node.id, following - 1, prev_term, entries, node.commit, node.round),
    )
    if progress.flow is Flow.PROBE:
        progress.probe_sent = True
    elif entries:
        progress.next = stop + 1
        progress.inflight.append(stop)
        if stop < last:
            send_append(node, peer, progress)


def lost(progress: Progress) -> None:
    """Messages were lost: find the place again."""
    if progress.flow is Flow.REPLICATE:
        progress.become_probe()


def on_append_reply(node: Node, message: AppendReply) -> None:
    """Advance, or go back to where the logs agree."""
    progress = node.peers.get(message.sender)
    if node.role is not Role.LEADER or progress is None:
        return
    if message.round > node.round or (message.ok and message.index > node.log.last_index):
        raise BadMessage(
            f"node {message.sender} claims entry {message.index} and round {message.round} of a "
            f"log that ends at {node.log.last_index} in round {node.round}"
        )
    progress.recent_active = True
    if message.round > progress.round:
        progress.round = message.round
        reads.round_answered(node)
    if not message.ok:
        _refused(node, message, progress)
        return
    news = progress.accepted(message.index)
    if news:
        progress.match_round = node.round
    if progress.flow is Flow.PROBE or (
        progress.flow is Flow.SNAPSHOT and progress.match >= progress.snapshot_index
    ):
        progress.become_replicate()
    if news:
        if maybe_commit(node) and node.role is Role.LEADER:
            broadcast(node)
        if node.transferee == message.sender and progress.match == node.log.last_index:
            election.hand_over(node)
    if node.role is Role.LEADER and progress.next <= node.log.last_index:
        send_append(node, message.sender, progress)


def _refused(node: Node, message: AppendReply, progress: Progress) -> None:
    if message.index <= progress.match and message.round > progress.match_round:
        # Asked after the promise was known, so this cannot be an answer that came late.
        raise RestoredDisk(message.sender, progress.match, message.index)
    if progress.flow is Flow.SNAPSHOT or message.index <= progress.match:
        return  # an answer from before the place was found
    if progress.flow is Flow.PROBE and message.index != progress.next - 1:
        return
    # Everything up to the hint has a term of at most hint_term there; skip what is newer here.
    agree, _ = node.log.last_index_of_term_at_most(message.hint_term, message.hint_index)
    progress.become_probe()
    progress.next = max(progress.match, min(agree, message.index - 1)) + 1
    send_append(node, message.sender, progress)


def maybe_commit(node: Node) -> bool:
    """Commit what a majority holds, if it is of this term (3.6.2, figure 3.7)."""
    if node.role is not Role.LEADER:
        return False
    match = {peer: progress.match for peer, progress in node.peers.items()}
    match[node.id] = node.log.last_index
    index = agreed_index(node.config, match)
    # An entry of an older term may be on a majority and still be overwritten: never count it.
    if index <= node.commit or node.log.term_at(index) != node.term:
        return False
    node.commit = index
    reads.committed(node)
    membership.committed(node)
    return True


# -- the follower's side -------------------------------------------------------------------------


def on_append(node: Node, message: Append) -> None:
    """Accept a leader's entries where the logs agree (figure 3.1, AppendEntries, steps 2 to 5)."""
    _follow(node, message.sender)
    log = node.log
    prev = message.prev_index
    entries = message.entries
    if prev < node.commit:
        # What is committed agrees by definition (log matching, 3.5); look at the rest only.
        entries = entries[node.commit - prev :]
        prev = node.commit
    elif (found := log.term_at(prev)) != message.prev_term:
        start = prev - 1 if found is not None else prev
        hint_index, hint_term = log.last_index_of_term_at_most(message.prev_term, start)
        reply = AppendReply(
            node.term, node.id, False, message.prev_index, hint_index, hint_term, message.round
        )
        node.send(message.sender, reply)
        return
    last = prev + len(entries)
    if entries:
        _take_entries(node, entries)
    commit = min(message.commit, last)
    if commit > node.commit:
        node.commit = commit
    node.send(message.sender, AppendReply(node.term, node.id, True, last, 0, 0, message.round))


def check_entries(message: Append) -> None:
    """Raises BadMessage when the entries have a gap, or terms that no log has."""
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= message.term:
            raise BadMessage(
                f"node {message.sender} sent entry {entry.index} of term {entry.term} where "
                f"index {index}, term {term} to {message.term} belongs"
            )
        term = entry.term


def _take_entries(node: Node, entries: tuple[Entry, ...]) -> None:
    log = node.log
    for position, entry in enumerate(entries):
        if log.term_at(entry.index) != entry.term:
            if entry.index <= node.commit:
                raise InvariantViolated(
                    f"node {node.id} is asked to overwrite its committed entry {entry.index}"
                )
            node.adopt_entries(entries[position:])
            return


def _follow(node: Node, leader: NodeId) -> None:
    """A leader of this term has spoken."""
    if node.role is Role.LEADER:
        raise InvariantViolated(f"nodes {node.id} and {leader} both lead term {node.term}")
    if node.role is not Role.FOLLOWER or node.leader != leader:
        election.become_follower(node, node.term, leader)
    node.elapsed = 0
    node.quiet_until = node.ticks + node.options.election_ticks


# -- snapshots -----------------------------------------------------------------------------------


def compact(node: Node, snapshot: Snapshot, keep: int) -> None:
    """Let a snapshot stand for the log before it (5.1)."""
    if snapshot.index > node.applied or node.log.term_at(snapshot.index) != snapshot.term:
        raise InvalidParameter(
            f"cannot compact node {node.id} at {snapshot.index}: applied is {node.applied}"
        )
    node.snapshot = snapshot
    index = max(snapshot.index - keep, node.log.snapshot_index)
    node.log.compact_to(index)
    membership.compact(node, index)


def _begin_snapshot(node: Node, peer: NodeId, progress: Progress) -> None:
    assert node.snapshot is not None, "the log is compacted, so a snapshot exists"
    progress.become_snapshot(node.snapshot.index)
    _send_chunk(node, peer, progress)


def _send_chunk(node: Node, peer: NodeId, progress: Progress) -> None:
    snapshot = node.snapshot
    assert snapshot is not None
    if snapshot.index != progress.snapshot_index:
        progress.become_snapshot(snapshot.index)  # a newer one exists: begin again with that
    start = progress.snapshot_offset
    data = snapshot.data[start : start + node.options.snapshot_chunk_bytes]
    done = start + len(data) >= len(snapshot.data)
    node.send(
        peer,
        InstallSnapshot(
            node.term,
            node.id,
            snapshot.index,
            snapshot.term,
            snapshot.config,
            start,
            data,
            done,
            node.round,
        ),
    )


def on_install_snapshot(node: Node, message: InstallSnapshot) -> None:
    """Gather the chunks; with the last one, start over from the snapshot (figure 5.3)."""
    _follow(node, message.sender)
    if message.index <= node.commit:
        node.incoming = None
        reply = AppendReply(node.term, node.id, True, node.commit, 0, 0, message.round)
        node.send(message.sender, reply)
        return
    incoming = node.incoming
    if incoming is None or (incoming.index, incoming.term) != (message.index, message.index_term):
        incoming = node.incoming = Incoming(message.index, message.index_term)
    if message.offset == len(incoming.data):
        incoming.data += message.data
        if message.done:
            node.incoming = None
            node.restore(
                Snapshot(message.index, message.index_term, message.config, bytes(incoming.data))
            )
            reply = AppendReply(node.term, node.id, True, message.index, 0, 0, message.round)
            node.send(message.sender, reply)
            return
    # A chunk that came twice or too early: say how far it really is.
    held = len(incoming.data)
    node.send(
        message.sender,
        SnapshotReply(node.term, node.id, message.index, held, False, message.round),
    )


def on_snapshot_reply(node: Node, message: SnapshotReply) -> None:
    """The follower holds this much; send the next chunk."""
    progress = node.peers.get(message.sender)
    if node.role is not Role.LEADER or progress is None:
        return
    if message.round > node.round or message.offset < 0:
        raise BadMessage(
            f"node {message.sender} claims byte {message.offset} and round {message.round} of a "
            f"snapshot sent up to round {node.round}"
        )
    progress.recent_active = True
    if message.round > progress.round:
        progress.round = message.round
        reads.round_answered(node)
    if progress.flow is not Flow.SNAPSHOT or message.index != progress.snapshot_index:
        return
    if message.offset != progress.snapshot_offset:
        progress.snapshot_offset = message.offset
        _send_chunk(node, message.sender, progress)
