"""A replicated, versioned, watchable key-value store on Raft."""

from labkit.cluster.store.commands import (
    Compact,
    Compare,
    Delete,
    Grant,
    Once,
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
    SessionExpired,
)
from labkit.cluster.store.machine import Machine
from labkit.cluster.store.replica import Replica, Reply
from labkit.cluster.store.results import Event, KeyValue, Result
from labkit.cluster.store.watching import Notice, Watches

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
    "Notice",
    "Once",
    "Overtaken",
    "Put",
    "Range",
    "Replica",
    "Reply",
    "Result",
    "Revoke",
    "SessionExpired",
    "Txn",
    "Watches",
    "prefix_end",
]
