"""What the store says: keys with their versions, changes, and what a command did."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Event", "KeyValue", "Result"]


class KeyValue(NamedTuple):
    """A key at one revision. `version` counts its writes since it was created."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class Event(NamedTuple):
    """A change at a revision: `now` is None for a deletion, `before` None for a creation."""

    revision: int
    key: str
    now: KeyValue | None
    before: KeyValue | None


class Result(NamedTuple):
    """What a command did. `values` are those of Range, or of what Delete removed."""

    revision: int
    succeeded: bool = True
    values: tuple[KeyValue, ...] = ()
    more: bool = False
    parts: tuple[Result, ...] = ()
