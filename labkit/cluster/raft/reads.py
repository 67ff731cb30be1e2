"""Linearizable reads without writing to the log (dissertation 6.4), and leases (6.4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.cluster.raft import replication
from labkit.cluster.raft.errors import NotLeader
from labkit.cluster.raft.quorum import agreed_index
from labkit.cluster.raft.types import (
    NO_NODE,
    NodeId,
    ReadReady,
    ReadRequest,
    ReadResponse,
    Role,
)

if TYPE_CHECKING:
    from labkit.cluster.raft.node import Node

__all__ = [
    "UNCONFIRMED",
    "Waiting",
    "abandon",
    "committed",
    "on_request",
    "on_response",
    "request",
    "round_answered",
]

UNCONFIRMED = -1
"""The index of a read that could not be confirmed: leadership was lost meanwhile. Ask again."""


class Waiting(NamedTuple):
    """A read that waits for a majority to answer heartbeat `round`.

    `index` and `round` are -1 while the leader does not know yet what is committed.
    """

    origin: NodeId
    context: Any
    index: int
    round: int


def request(node: Node, context: Any) -> None:
    """Begin a read on this server."""
    if node.role is Role.LEADER:
        _begin(node, node.id, context)
    elif node.leader == NO_NODE:
        raise NotLeader(NO_NODE)
    else:
        node.send(node.leader, ReadRequest(node.term, node.id, context))


def on_request(node: Node, message: ReadRequest) -> None:
    """A follower asks for a read index."""
    if node.role is Role.LEADER:
        _begin(node, message.sender, message.context)
    else:
        response = ReadResponse(node.term, node.id, message.context, UNCONFIRMED)
        node.send(message.sender, response)


def on_response(node: Node, message: ReadResponse) -> None:
    """The leader has confirmed the read, or could not."""
    node.effects.reads.append(ReadReady(message.context, message.index))


def _begin(node: Node, origin: NodeId, context: Any) -> None:
    if node.log.term_at(node.commit) != node.term:
        # Step 1 of section 6.4: until its first own entry commits, a leader may not know the
        # latest commit index. The read waits for it.
        node.reads_waiting.append(Waiting(origin, context, -1, -1))
        return
    index = node.commit
    # Alone it needs nobody's word; a leader that is leaving a cluster of one other is not alone.
    alone = node.config.voters == {node.id} and not node.config.outgoing
    if alone or (node.options.lease_ticks and _has_lease(node)):
        _answer(node, origin, context, index)
    else:
        node.reads_waiting.append(Waiting(origin, context, index, node.round + 1))
        replication.heartbeat(node)


def committed(node: Node) -> None:
    """An entry of this term is committed: the reads that waited for it can begin."""
    held = [waiting for waiting in node.reads_waiting if waiting.index < 0]
    if held and node.log.term_at(node.commit) == node.term:
        node.reads_waiting = [waiting for waiting in node.reads_waiting if waiting.index >= 0]
        for waiting in held:
            _begin(node, waiting.origin, waiting.context)


def round_answered(node: Node) -> None:
    """One more follower has answered a round; serve what a majority has confirmed by it."""
    if not node.reads_waiting:
        return
    confirmed = _confirmed_round(node)
    still = []
    for waiting in node.reads_waiting:
        if 0 <= waiting.round <= confirmed:
            _answer(node, waiting.origin, waiting.context, waiting.index)
        else:
            still.append(waiting)
    node.reads_waiting = still


def abandon(node: Node) -> None:
    """Leadership is lost; nobody may be told that their read was confirmed."""
    for waiting in node.reads_waiting:
        _answer(node, waiting.origin, waiting.context, UNCONFIRMED)
    node.reads_waiting = []


def _confirmed_round(node: Node) -> int:
    rounds = {peer: progress.round for peer, progress in node.peers.items()}
    rounds[node.id] = node.round
    return agreed_index(node.config, rounds)


def _has_lease(node: Node) -> bool:
    """Whether a majority answered a round that began less than `lease_ticks` ago (6.4.1).

    Those followers will not vote for anybody else within an election timeout of hearing it.
    """
    confirmed = _confirmed_round(node)
    for old in [number for number in node.round_ticks if number < confirmed]:
        del node.round_ticks[old]
    began = node.round_ticks.get(confirmed)
    # Who is asked to take over may do so whenever that message arrives, however late.
    return (
        began is not None and not node.transfers and node.ticks - began < node.options.lease_ticks
    )


def _answer(node: Node, origin: NodeId, context: Any, index: int) -> None:
    if origin == node.id:
        node.effects.reads.append(ReadReady(context, index))
    else:
        node.send(origin, ReadResponse(node.term, node.id, context, index))
