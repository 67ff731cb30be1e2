"""What a picture of a server shows, as plain values: the same for simulated and for real ones."""

from __future__ import annotations

from typing import Any

from labkit.cluster.raft.node import Node
from labkit.cluster.raft.types import Role
from labkit.cluster.raft.wire import pack_config

__all__ = ["picture"]


def picture(
    node: Node, *, up: bool, paused: bool, applied: int, unsynced: int, entries_max: int = 0
) -> dict[str, Any]:
    """`log` lists the terms of the entries from `first` on; the last `entries_max` of them, or all
    for 0."""
    log = node.log
    first = log.first_index
    if entries_max:
        first = max(first, log.last_index - entries_max + 1)
    state: dict[str, Any] = {
        "up": up,
        "paused": paused,
        "role": node.role.name.lower(),
        "term": node.term,
        "vote": node.vote,
        "leader": node.leader,
        "first": first,
        "log": [entry.term for entry in log.slice(first, log.last_index + 1)],
        "commit": node.commit,
        "applied": applied,
        "unsynced": unsynced,
        "elapsed": node.elapsed,
        "timeout": node.election_timeout,
        "config": pack_config(node.config),
        "votes": sorted(node.granted) if node.role is not Role.FOLLOWER else [],
        "peers": {},
    }
    if node.role is Role.LEADER:
        state["peers"] = {
            str(peer): [p.next, p.match, p.flow.name.lower()] for peer, p in node.peers.items()
        }
    return state
