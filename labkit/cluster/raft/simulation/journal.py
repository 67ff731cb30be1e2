"""What a server keeps on disk, and how it finds itself again after a crash.

The persistence contract (dissertation figure 3.1): term, vote and entries reach the disk before a
message that relies on them leaves; a snapshot replaces what came before it.
"""

from __future__ import annotations

from typing import NamedTuple

from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.types import Entry, HardState, Snapshot
from labkit.world.ports import Disk

__all__ = ["Recovered", "compact", "recover", "write"]


class Recovered(NamedTuple):
    """What a disk says: arguments for a Node as it comes up."""

    hard_state: HardState | None
    snapshot: Snapshot | None
    entries: list[Entry]


def write(disk: Disk, effects: Effects) -> None:
    """Write a batch in the order the contract demands. The caller syncs."""
    if effects.hard_state is not None:
        disk.write(effects.hard_state)
    if effects.snapshot is not None:
        disk.write(effects.snapshot)
    if effects.entries:
        disk.write(tuple(effects.entries))


def recover(disk: Disk) -> Recovered:
    """Replay the journal: later records win, entries replace what they overlap."""
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    entries: list[Entry] = []
    for record in disk.records():
        if isinstance(record, HardState):
            hard_state = record
        elif isinstance(record, Snapshot):
            snapshot = record
            kept = [entry for entry in entries if entry.index > record.index]
            agrees = any(
                entry.index == record.index and entry.term == record.term for entry in entries
            )
            entries = kept if agrees else []
        elif record:
            first = record[0].index
            while entries and entries[-1].index >= first:
                entries.pop()
            entries.extend(record)
    base = snapshot.index if snapshot else 0
    return Recovered(hard_state, snapshot, [entry for entry in entries if entry.index > base])


def compact(disk: Disk, hard_state: HardState, snapshot: Snapshot, entries: list[Entry]) -> None:
    """Rewrite the journal as short as possible: a snapshot, what follows it, the latest state."""
    disk.replace([hard_state, snapshot, tuple(entries)])
