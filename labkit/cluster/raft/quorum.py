"""Majorities, plain and joint.

A decision of a joint configuration needs a majority of both sets of voters (section 4.3). An
empty set of voters agrees with everything, so that a plain configuration is the special case.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from labkit.cluster.raft.types import Config, NodeId

__all__ = ["agreed_index", "has_quorum", "is_lost", "majority"]


def majority(count: int) -> int:
    """The smallest number that any two sets of `count` servers must share: 1, 2, 2, 3, 3, …"""
    return count // 2 + 1


def has_quorum(config: Config, supporters: AbstractSet[NodeId]) -> bool:
    """Whether `supporters` hold a majority of every set of voters."""
    voters = config.voters
    if len(voters & supporters) * 2 <= len(voters):
        return False
    outgoing = config.outgoing
    return not outgoing or len(outgoing & supporters) * 2 > len(outgoing)


def is_lost(config: Config, refusers: AbstractSet[NodeId]) -> bool:
    """Whether so many refuse that the rest can no longer be a majority."""
    for voters in (config.voters, config.outgoing):
        if voters and (len(voters) - len(voters & refusers)) * 2 <= len(voters):
            return True
    return False


def agreed_index(config: Config, match: Mapping[NodeId, int]) -> int:
    """The highest index that a majority of every set of voters is known to hold.

    `match` gives each voter's highest index; a missing one counts as 0.
    """
    found = _majority_index(config.voters, match)
    if config.outgoing:
        found = min(found, _majority_index(config.outgoing, match))
    return found


def _majority_index(voters: frozenset[NodeId], match: Mapping[NodeId, int]) -> int:
    if not voters:
        return 0
    held = sorted([match.get(voter, 0) for voter in voters], reverse=True)
    return held[len(voters) // 2]
