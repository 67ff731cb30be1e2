"""What a server keeps on disk, and how it finds itself again after a crash.

The persistence contract (dissertation figure 3.1): term, vote and entries reach the disk before a
message that relies on them leaves; a snapshot replaces what came before it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.types import Entry, HardState, Snapshot
from labkit.cluster.raft.wire import pack_config, pack_entry, unpack_config, unpack_entry
from labkit.world.ports import Cipher, Disk

__all__ = ["CodedDisk", "Recovered", "compact", "recover", "write"]


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


class CodedDisk:
    """A Disk of journal records on a Disk of bytes, sealed when there is a cipher.

    With autolock the log lies on the disk sealed, and a manager that restarts can do nothing until
    somebody brings the key.
    """

    __slots__ = ("_cipher", "_disk")

    def __init__(self, disk: Disk, cipher: Cipher | None = None) -> None:
        self._disk = disk
        self._cipher = cipher

    def write(self, record: Any) -> None:
        """Add a HardState, a Snapshot or a tuple of entries."""
        self._disk.write(self._encode(record))

    def sync(self) -> None:
        """Make it durable."""
        self._disk.sync()

    def replace(self, records: Sequence[Any]) -> None:
        """Replace the journal; with another cipher than before this turns the key."""
        self._disk.replace([self._encode(record) for record in records])

    def records(self) -> Sequence[Any]:
        """What is there. Raises InvalidParameter when it is no journal or the key does not fit."""
        return [self._decode(data) for data in self._disk.records()]

    def _encode(self, record: Any) -> bytes:
        packed: list[Any]
        if isinstance(record, HardState):
            packed = ["state", *record]
        elif isinstance(record, Snapshot):
            data = base64.b64encode(record.data).decode("ascii")
            packed = ["snapshot", record.index, record.term, pack_config(record.config), data]
        else:
            packed = ["entries", *map(pack_entry, record)]
        plain = json.dumps(packed, separators=(",", ":"), ensure_ascii=False).encode()
        return self._cipher.seal(plain) if self._cipher is not None else plain

    def _decode(self, data: bytes) -> Any:
        plain = self._cipher.open(data) if self._cipher is not None else data
        try:
            kind, *fields = json.loads(plain)
            if kind == "state":
                return HardState(*fields)
            if kind == "snapshot":
                index, term, config, text = fields
                return Snapshot(index, term, unpack_config(config), base64.b64decode(text))
            if kind == "entries":
                return tuple(map(unpack_entry, fields))
        except (ValueError, TypeError) as error:
            raise InvalidParameter(
                f"cannot read the journal: {error}", hint="is it sealed with a key?"
            ) from None
        raise InvalidParameter(f"cannot read the journal: it has no records called {kind!r}")
