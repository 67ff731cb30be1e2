"""The log: a snapshot's place followed by consecutive entries.

Kept in memory; what must also be on disk is told to the driver through Effects. Nothing here
knows about terms of office, votes or peers.
"""

from __future__ import annotations

from collections.abc import Sequence

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.types import Entry

__all__ = ["Log"]


class Log:
    """Entries `first_index` … `last_index`, after a snapshot that ends at `first_index - 1`."""

    __slots__ = ("_entries", "snapshot_index", "snapshot_term")

    def __init__(
        self,
        entries: Sequence[Entry] = (),
        *,
        snapshot_index: int = 0,
        snapshot_term: int = 0,
    ) -> None:
        """Raises InvalidParameter when the entries have a gap or a falling term."""
        self.snapshot_index = snapshot_index
        self.snapshot_term = snapshot_term
        self._entries: list[Entry] = list(entries)
        expected, term = snapshot_index + 1, snapshot_term
        for entry in self._entries:
            if entry.index != expected or entry.term < term:
                raise InvalidParameter(
                    f"the log cannot hold entry {entry.index} of term {entry.term} "
                    f"where index {expected} of term {term} or later belongs"
                )
            expected, term = expected + 1, entry.term

    @property
    def first_index(self) -> int:
        return self.snapshot_index + 1

    @property
    def last_index(self) -> int:
        return self.snapshot_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.snapshot_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None when it is compacted away or not there yet."""
        position = index - self.snapshot_index - 1
        if position >= 0:
            entries = self._entries
            return entries[position].term if position < len(entries) else None
        return self.snapshot_term if position == -1 else None

    def entry(self, index: int) -> Entry:
        """The entry at `index`, which must be in `first_index … last_index`."""
        assert self.snapshot_index < index <= self.last_index
        return self._entries[index - self.snapshot_index - 1]

    def slice(self, start: int, stop: int) -> tuple[Entry, ...]:
        """Entries `start` … `stop - 1`; those that are there."""
        offset = self.snapshot_index + 1
        assert start >= offset
        return tuple(self._entries[start - offset : max(stop - offset, 0)])

    def append(self, entry: Entry) -> None:
        """Add one entry at the end."""
        assert entry.index == self.last_index + 1
        assert entry.term >= self.last_term
        self._entries.append(entry)

    def truncate_from(self, index: int) -> None:
        """Forget the entries from `index` on."""
        assert index > self.snapshot_index
        del self._entries[index - self.snapshot_index - 1 :]

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log ending so is at least as up-to-date as this one (section 3.6.1)."""
        own = self.last_term
        return last_term > own or (last_term == own and last_index >= self.last_index)

    def compact_to(self, index: int) -> None:
        """Forget the entries up to and including `index`, which a snapshot now stands for."""
        term = self.term_at(index)
        assert term is not None
        del self._entries[: index - self.snapshot_index]
        self.snapshot_index, self.snapshot_term = index, term

    def restore(self, index: int, term: int) -> None:
        """Become the empty log after a snapshot that came from the leader."""
        self._entries.clear()
        self.snapshot_index, self.snapshot_term = index, term

    def last_index_of_term_at_most(self, term: int, start: int) -> tuple[int, int]:
        """The highest index at or below `start` whose term is at most `term`, and its term.

        Lets a leader skip a whole diverging term per answer instead of one entry (3.5, end).
        """
        index = min(start, self.last_index)
        while index > self.snapshot_index:
            found = self._entries[index - self.snapshot_index - 1].term
            if found <= term:
                return index, found
            index -= 1
        return self.snapshot_index, self.snapshot_term
