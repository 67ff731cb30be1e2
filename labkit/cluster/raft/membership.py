"""Who belongs to the cluster, and how that changes without ever having two majorities.

Joint consensus (dissertation 4.3): first the old and the new set decide together, then the new one
alone. A server uses the latest configuration in its log, committed or not (4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft import election, replication
from labkit.cluster.raft.errors import ChangeInProgress
from labkit.cluster.raft.progress import Progress
from labkit.cluster.raft.types import NO_NODE, Config, EntryKind, NodeId, Role

if TYPE_CHECKING:
    from labkit.cluster.raft.node import Node

__all__ = ["adopt", "change", "committed", "compact", "forget_from", "may_stand", "replay"]


def replay(node: Node) -> None:
    """Find the configurations in the log that a server comes up with."""
    log = node.log
    for entry in log.slice(log.first_index, log.last_index + 1):
        if entry.kind is EntryKind.CONFIG:
            node.config = entry.data
            node.config_history.append((entry.index, entry.data))


def adopt(node: Node, index: int, config: Config) -> None:
    """A configuration entered the log: it counts from now on."""
    node.config = config
    node.config_history.append((index, config))
    if node.role is Role.LEADER:
        for peer in sorted(config.members):
            if peer != node.id and peer not in node.peers:
                node.peers[peer] = Progress(node.log.last_index)
        for peer in [peer for peer in node.peers if peer not in config.members]:
            del node.peers[peer]


def forget_from(node: Node, index: int) -> None:
    """Entries from `index` on were overwritten, and configurations with them."""
    history = node.config_history
    while history[-1][0] >= index:
        history.pop()
    node.config = history[-1][1]


def may_stand(node: Node) -> bool:
    """Whether a server may become leader: as a voter, or as one that is on its way out.

    Section 4.2.2: until the configuration without it is committed, it may be the only one with a
    log that a majority could follow, so it still stands (and does not count its own vote).
    """
    for index, config in reversed(node.config_history):
        if config.can_vote(node.id):
            return True
        if index <= node.commit:
            break
    return False


def compact(node: Node, index: int) -> None:
    """The log now begins after `index`; only the configuration in force there is still needed."""
    history = node.config_history
    while len(history) > 1 and history[1][0] <= index:
        history.pop(0)


def change(node: Node, voters: frozenset[NodeId], learners: frozenset[NodeId]) -> int:
    """Append the joint configuration, or the new one at once when the voters stay the same."""
    node.require_leader()
    if not voters:
        raise InvalidParameter("a cluster needs at least one voter")
    if voters & learners:
        raise InvalidParameter("a node is a voter or a learner, not both")
    if NO_NODE in voters | learners:
        raise InvalidParameter("node ids start at 1")
    if node.config.is_joint or node.config_history[-1][0] > node.commit:
        raise ChangeInProgress(
            "a membership change is still under way", hint="wait until it is committed"
        )
    if node.log.term_at(node.commit) != node.term:
        raise ChangeInProgress(
            "the new leader has not committed an entry of its term yet", hint="try again shortly"
        )
    old = node.config
    outgoing = old.voters if voters != old.voters else frozenset()
    index = node.append(EntryKind.CONFIG, Config(voters, outgoing, learners)).index
    replication.broadcast(node)
    return index


def committed(node: Node) -> None:
    """The leader's commit index moved: take the next step of a change that it completes."""
    index, config = node.config_history[-1]
    if index > node.commit:
        return
    if config.is_joint:
        node.append(EntryKind.CONFIG, Config(config.voters, frozenset(), config.learners))
        replication.broadcast(node)
    elif node.id not in config.voters:
        # Section 4.2.2: it has led the change that removes it, and now steps down.
        election.become_follower(node, node.term, NO_NODE)
