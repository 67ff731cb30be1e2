"""What pure code may want from the world.

The cluster floor is given objects of these shapes and never reaches for the real thing itself, so
that the same code runs on the wall clock and under a seeded simulation.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Any, Protocol, TypeVar

__all__ = ["Cipher", "Clock", "Disk", "Net", "Rng"]

T = TypeVar("T")


class Cipher(Protocol):
    """Hides bytes from whoever lacks the key, and notices when they were changed."""

    def seal(self, plain: bytes, /) -> bytes:
        """The sealed bytes; never the same twice."""

    def open(self, sealed: bytes, /) -> bytes:
        """The plain bytes; raises InvalidParameter when the key does not fit."""


class Clock(Protocol):
    """A clock that never runs backwards."""

    def now_ns(self) -> int:
        """Nanoseconds since some fixed moment."""


class Rng(Protocol):
    """Chance. `random.Random` has this shape."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 to `stop - 1`."""

    def choice(self, seq: Sequence[T], /) -> T:
        """One of a non-empty sequence."""

    def shuffle(self, x: MutableSequence[Any], /) -> None:
        """Bring a list into random order."""

    def expovariate(self, lambd: float, /) -> float:
        """An exponentially distributed number with mean 1/lambd."""


class Net(Protocol):
    """Sends and forgets; nothing is said about arrival."""

    def send(self, source: int, target: int, message: Any) -> None:
        """Send one message."""


class Disk(Protocol):
    """An append-only journal of records. Only what was synced survives a crash."""

    def write(self, record: Any) -> None:
        """Add a record; it may or may not survive until the next sync."""

    def sync(self) -> None:
        """Everything written so far survives from now on."""

    def replace(self, records: Sequence[Any]) -> None:
        """Put these in the place of the whole journal, atomically and durably."""

    def records(self) -> Sequence[Any]:
        """What is there, in order."""
