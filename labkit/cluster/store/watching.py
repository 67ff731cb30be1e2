"""Watches: what changed under some keys, told as it is applied, without a gap.

A watch begins after a revision, so that whoever has listed the keys at a revision and watches from
there misses nothing. Any member serves it from its own copy: perhaps late, never out of order.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from labkit.base.errors import Conflict, LabkitError
from labkit.cluster.store.machine import Machine
from labkit.cluster.store.results import Event

__all__ = ["Notice", "Watches"]


class Notice(NamedTuple):
    """News for a watch: every change up to `revision`; with an `error` the watch has ended."""

    watch: Hashable
    events: tuple[Event, ...]
    revision: int
    error: LabkitError | None = None


@dataclass(slots=True)
class _Watch:
    key: str
    end: str | None
    after: int


class Watches:
    """Who watches what on one member."""

    __slots__ = ("_all", "_seen")

    def __init__(self) -> None:
        self._all: dict[Hashable, _Watch] = {}
        self._seen = -1

    def __len__(self) -> int:
        return len(self._all)

    def add(self, name: Hashable, key: str, end: str | None = None, after: int = 0) -> None:
        """Watch one key, or all from `key` up to `end`, from the revision after `after` on.

        The past since then comes with the next `due`. Raises Conflict for a name in use.
        """
        if name in self._all:
            raise Conflict(f"there is a watch {name!r} already")
        self._all[name] = _Watch(key, end, after)
        self._seen = -1

    def drop(self, name: Hashable) -> None:
        """Nobody watches there any more."""
        self._all.pop(name, None)

    def due(self, machine: Machine) -> list[Notice]:
        """What there is to tell since the last call."""
        if machine.revision == self._seen or not self._all:
            return []
        self._seen = machine.revision
        notices = []
        for name, watch in list(self._all.items()):
            if machine.revision <= watch.after:
                continue
            try:
                events = machine.events(watch.key, watch.end, watch.after)
            except LabkitError as error:  # forgotten before it was told: list again
                del self._all[name]
                notices.append(Notice(name, (), machine.revision, error))
                continue
            watch.after = machine.revision
            if events:
                notices.append(Notice(name, tuple(events), machine.revision))
        return notices
