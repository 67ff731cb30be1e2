"""Elections: who leads, and the rule about terms (dissertation chapter 3, sections 6.2 and 9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft import reads, replication
from labkit.cluster.raft.progress import Progress
from labkit.cluster.raft.quorum import has_quorum, is_lost
from labkit.cluster.raft.types import (
    NO_NODE,
    Append,
    AppendReply,
    EntryKind,
    InstallSnapshot,
    Message,
    NodeId,
    Role,
    TimeoutNow,
    Vote,
    VoteReply,
)

if TYPE_CHECKING:
    from labkit.cluster.raft.node import Node

__all__ = [
    "ask_again",
    "become_follower",
    "campaign",
    "hand_over",
    "on_timeout_now",
    "on_vote",
    "on_vote_reply",
    "settle_term",
    "transfer",
]


def settle_term(node: Node, message: Message) -> bool:
    """Bring the terms together (figure 3.1, "all servers"). False: the message is done with."""
    kind = type(message)
    if message.term > node.term:
        if kind is Vote:
            assert isinstance(message, Vote)
            if not message.transfer and _hears_a_leader(node):
                # Section 4.2.3: a server that was removed, or was cut off, must not be able to
                # depose a leader that everybody else is content with.
                return False
            if message.pre:
                return True
        elif kind is VoteReply:
            assert isinstance(message, VoteReply)
            if message.pre and message.granted:
                return True
        speaks_as_leader = kind is Append or kind is InstallSnapshot
        become_follower(node, message.term, message.sender if speaks_as_leader else NO_NODE)
        return True
    if kind is Append or kind is InstallSnapshot:
        # An old leader learns from the term in the answer that it is one.
        node.send(message.sender, AppendReply(node.term, node.id, False, 0, 0, 0, 0))
    elif kind is Vote:
        assert isinstance(message, Vote)
        node.send(message.sender, VoteReply(node.term, node.id, False, message.pre))
    return False


def _hears_a_leader(node: Node) -> bool:
    return node.options.check_quorum and (node.role is Role.LEADER or node.ticks < node.quiet_until)


def become_follower(node: Node, term: int, leader: NodeId) -> None:
    """Follow: a higher term was seen, a leader of this term spoke, or an election was lost."""
    if term != node.term:
        node.term, node.vote = term, NO_NODE
    if node.role is not Role.FOLLOWER or leader != NO_NODE:
        # A mere candidate's higher term does not count as a leader's word (3.4).
        node.elapsed = 0
        node.draw_timeout()
    if node.role is Role.LEADER:
        node.peers.clear()
        node.transferee = NO_NODE
        reads.abandon(node)
    node.role = Role.FOLLOWER
    node.leader = leader


def campaign(node: Node, *, transfer: bool = False) -> None:
    """Stand for election; first, quietly, find out whether it could be won (9.6).

    A transfer skips the question: the leader has decided, and every voter still hears it (3.10).
    """
    node.leader = NO_NODE
    node.draw_timeout()
    node.elapsed = 0
    if node.options.pre_vote and not transfer:
        node.role = Role.PRE_CANDIDATE
        _ask(node, node.term + 1, pre=True, transfer=False)
    else:
        _become_candidate(node, transfer=transfer)


def _become_candidate(node: Node, *, transfer: bool) -> None:
    node.role = Role.CANDIDATE
    node.term += 1
    node.vote = node.id
    _ask(node, node.term, pre=False, transfer=transfer)


def _ask(node: Node, term: int, *, pre: bool, transfer: bool) -> None:
    node.granted = {node.id}
    node.refused = set()
    last_index, last_term = node.log.last_index, node.log.last_term
    node.request = Vote(term, node.id, last_index, last_term, pre, transfer)
    ask_again(node)
    _count(node)


def ask_again(node: Node) -> None:
    """Ask those who have not answered: requests are repeated until they are (3.4)."""
    for voter in sorted(node.config.voters | node.config.outgoing):
        if voter != node.id and voter not in node.granted and voter not in node.refused:
            node.send(voter, node.request)


def _count(node: Node) -> None:
    if has_quorum(node.config, node.granted):
        if node.role is Role.PRE_CANDIDATE:
            _become_candidate(node, transfer=False)
        else:
            _become_leader(node)
    elif is_lost(node.config, node.refused):
        become_follower(node, node.term, NO_NODE)


def _become_leader(node: Node) -> None:
    node.role = Role.LEADER
    node.leader = node.id
    node.elapsed = node.heartbeat_elapsed = 0
    node.transferee = NO_NODE
    node.transfers = 0
    node.round = 0
    node.round_ticks = {}
    following = node.log.last_index + 1
    node.peers = {
        peer: Progress(following) for peer in sorted(node.config.members) if peer != node.id
    }
    # Section 6.4: only an entry of its own term tells a leader what is committed.
    node.append(EntryKind.NOOP, None)
    replication.heartbeat(node)


def on_vote(node: Node, message: Vote) -> None:
    """Grant at most one vote a term, and only to a log at least as complete (3.4, 3.6.1)."""
    free = node.vote == message.sender or (node.vote == NO_NODE and node.leader == NO_NODE)
    if message.pre and message.term > node.term:
        free = True
    granted = free and node.log.is_up_to_date(message.last_index, message.last_term)
    if granted and message.pre and node.role is Role.PRE_CANDIDATE:
        granted = _yields_to(node, message)
    if granted and not message.pre:
        node.vote = message.sender
        node.elapsed = 0
    term = message.term if granted else node.term
    node.send(message.sender, VoteReply(term, node.id, granted, message.pre))


def _yields_to(node: Node, rival: Vote) -> bool:
    """Two ask at the same moment: the better log, then the higher id goes on, the other yields.

    If each promised the other its vote, both would stand and split it. A promise binds nobody
    (9.6), so any rule is safe; this one lets exactly one of them win.
    """
    log = node.log
    mine = (log.last_term, log.last_index, node.id)
    if (rival.last_term, rival.last_index, rival.sender) < mine:
        return False
    become_follower(node, node.term, NO_NODE)
    return True


def on_vote_reply(node: Node, message: VoteReply) -> None:
    """Count an answer, if it answers the election that is going on."""
    if message.pre:
        asked = node.term + 1 if message.granted else node.term
        if node.role is not Role.PRE_CANDIDATE or message.term != asked:
            return
    elif node.role is not Role.CANDIDATE:
        return
    (node.granted if message.granted else node.refused).add(message.sender)
    _count(node)


def transfer(node: Node, target: NodeId) -> None:
    """Bring `target` up to date, then ask it to stand at once (3.10)."""
    node.require_leader()
    if target == node.id:
        return
    if target not in node.peers or not node.config.can_vote(target):
        raise InvalidParameter(
            f"cannot hand leadership to node {target}: it is not a voter of this cluster"
        )
    node.transferee = target
    node.elapsed = 0  # the attempt gets one election timeout
    progress = node.peers[target]
    if progress.match == node.log.last_index:
        hand_over(node)
    else:
        replication.send_append(node, target, progress)


def hand_over(node: Node) -> None:
    """The target has everything. From now on somebody may win an election at any moment."""
    node.transfers += 1
    node.send(node.transferee, TimeoutNow(node.term, node.id))


def on_timeout_now(node: Node, message: TimeoutNow) -> None:  # noqa: ARG001 - one shape for all
    """The leader wants this server to take over (3.10)."""
    if node.role is Role.FOLLOWER and node.config.can_vote(node.id):
        campaign(node, transfer=True)
