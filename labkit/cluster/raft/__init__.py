"""Consensus as a pure state machine, after Ongaro's dissertation (2014)."""

from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.errors import (
    BadMessage,
    ChangeInProgress,
    InvariantViolated,
    NotLeader,
    RestoredDisk,
    TransferInProgress,
)
from labkit.cluster.raft.node import Node, Options
from labkit.cluster.raft.types import (
    NO_NODE,
    Config,
    Entry,
    EntryKind,
    HardState,
    Message,
    NodeId,
    ReadReady,
    Role,
    Snapshot,
)

__all__ = [
    "NO_NODE",
    "BadMessage",
    "ChangeInProgress",
    "Config",
    "Effects",
    "Entry",
    "EntryKind",
    "HardState",
    "InvariantViolated",
    "Message",
    "Node",
    "NodeId",
    "NotLeader",
    "Options",
    "ReadReady",
    "RestoredDisk",
    "Role",
    "Snapshot",
    "TransferInProgress",
]
