"""A disk that keeps its word about `sync` and about nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.world.ports import Rng

__all__ = ["SimDisk"]


class SimDisk:
    """A journal in memory. A crash keeps what was synced and some of what was not.

    Records written but not synced may survive up to any point: the last survivor may be torn, which
    a checksum would reveal, so it is gone as well.
    """

    __slots__ = ("_durable", "_records")

    def __init__(self) -> None:
        self._records: list[Any] = []
        self._durable = 0

    def write(self, record: Any) -> None:
        """Add a record at the end, in the operating system's cache."""
        self._records.append(record)

    def sync(self) -> None:
        """Make everything written so far survive."""
        self._durable = len(self._records)

    def replace(self, records: Sequence[Any]) -> None:
        """Replace the journal atomically (write aside, sync, rename, sync the folder)."""
        self._records = list(records)
        self._durable = len(self._records)

    def records(self) -> Sequence[Any]:
        """The journal as a process that starts now would read it."""
        return self._records

    @property
    def unsynced(self) -> int:
        """How many records a crash could lose."""
        return len(self._records) - self._durable

    def crash(self, rng: Rng) -> int:
        """Lose a random part of what was not synced. Returns how many records went."""
        doubtful = len(self._records) - self._durable
        if not doubtful:
            return 0
        survivors = rng.randrange(doubtful + 1)
        del self._records[self._durable + survivors :]
        self._durable = len(self._records)
        return doubtful - survivors

    def wipe(self) -> None:
        """The disk is replaced by an empty one."""
        self._records.clear()
        self._durable = 0
