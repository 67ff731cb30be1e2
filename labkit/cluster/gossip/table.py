"""A table that every node holds a copy of and only the owner of a line writes.

Which container has which address on which node: overlay forwarding tables are filled from it. Lines
carry Lamport times (Lamport 1978), so that copies agree in whatever order news arrives; a deleted
line stays as a tombstone until no older news about it can be on its way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from labkit.base.errors import Conflict

__all__ = ["Record", "Table"]


class Record(NamedTuple):
    """One line. `value` is None in a tombstone. `scope` is for whom it is: "" for everybody."""

    key: str
    owner: int
    time: int
    value: Any
    scope: str = ""

    @property
    def is_tombstone(self) -> bool:
        return self.value is None


class Table:
    """One node's copy."""

    __slots__ = ("_records", "_tombstones", "clock", "owner")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.clock = 0
        """Lamport's clock: later than everything this node has seen."""
        self._records: dict[str, Record] = {}
        self._tombstones: dict[str, int] = {}

    def put(self, key: str, value: Any, scope: str = "") -> Record:
        """Write a line of one's own. Raises Conflict when another node's line has that key."""
        known = self._records.get(key)
        if known is not None and known.owner != self.owner and not known.is_tombstone:
            raise Conflict(f"cannot write {key!r}: it belongs to node {known.owner}")
        self.clock += 1
        record = Record(key, self.owner, self.clock, value, scope)
        self._records[key] = record
        return record

    def delete(self, key: str, tick: int = 0) -> Record:
        """Leave a tombstone. `tick` is now, for `reap`."""
        known = self._records.get(key)
        record = self.put(key, None, known.scope if known is not None else "")
        self._tombstones[key] = tick
        return record

    def merge(self, record: Record, tick: int = 0) -> bool:
        """Take over another node's news. Returns whether it was news."""
        self.clock = max(self.clock, record.time)
        known = self._records.get(record.key)
        if known is not None and (known.time, known.owner) >= (record.time, record.owner):
            return False
        self._records[record.key] = record
        if record.is_tombstone:
            self._tombstones[record.key] = tick
        else:
            self._tombstones.pop(record.key, None)
        return True

    def forget_owner(self, owner: int) -> list[Record]:
        """A node is dead: its lines go here, without telling (everybody sees its death)."""
        gone = [r for r in self._records.values() if r.owner == owner and not r.is_tombstone]
        for record in gone:
            del self._records[record.key]
        return gone

    def drop_scope(self, scope: str) -> None:
        """Forget every line of a scope: it is not for this node any more."""
        for key in [key for key, record in self._records.items() if record.scope == scope]:
            del self._records[key]
            self._tombstones.pop(key, None)

    def reap(self, before_tick: int) -> None:
        """Forget tombstones from before a tick."""
        for key in [key for key, tick in self._tombstones.items() if tick < before_tick]:
            del self._tombstones[key]
            del self._records[key]

    def get(self, key: str) -> Any:
        """The value, or None."""
        record = self._records.get(key)
        return record.value if record is not None else None

    def everything(self, scopes: Collection[str] | None = None) -> tuple[Record, ...]:
        """All lines, tombstones too, for a full exchange; those for everybody and of `scopes` when
        these are given."""
        lines = self._records.values()
        if scopes is None:
            return tuple(lines)
        return tuple(line for line in lines if not line.scope or line.scope in scopes)

    def live(self) -> dict[str, Any]:
        """What the table says, in the order of its keys."""
        return {r.key: r.value for r in sorted(self._records.values()) if not r.is_tombstone}

    def news(self, records: Iterable[Record], tick: int = 0) -> Iterator[Record]:
        """Merge many; yields those that were news."""
        return (record for record in records if self.merge(record, tick))
