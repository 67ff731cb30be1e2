"""A replicated, versioned, watchable key-value store on Raft."""

from labkit.cluster.store.commands import (
    Compact,
    Compare,
    Delete,
    Grant,
    Put,
    Range,
    Revoke,
    Txn,
    prefix_end,
)
from labkit.cluster.store.errors import (
    Compacted,
    FutureRevision,
    Indefinite,
    NoSuchLease,
    Overtaken,
)
from labkit.cluster.store.machine import Event, KeyValue, Machine
from labkit.cluster.store.replica import Replica, Reply

__all__ = [
    "Compact",
    "Compacted",
    "Compare",
    "Delete",
    "Event",
    "FutureRevision",
    "Grant",
    "Indefinite",
    "KeyValue",
    "Machine",
    "NoSuchLease",
    "Overtaken",
    "Put",
    "Range",
    "Replica",
    "Reply",
    "Revoke",
    "Txn",
    "prefix_end",
]
