"""Virtual time: events in a heap, one after the other, the earliest first.

Two events at the same instant happen in the order in which they were planned, so a run depends on
its seed alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["Loop"]


class Loop:
    """The clock and the agenda of a simulation. Time is in nanoseconds and starts at 0."""

    __slots__ = ("_agenda", "_sequence", "now")

    def __init__(self) -> None:
        self.now = 0
        self._agenda: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0

    def now_ns(self) -> int:
        """The present moment (the Clock port)."""
        return self.now

    def after(self, delay_ns: int, action: Callable[..., object], *arguments: Any) -> None:
        """Plan `action(*arguments)` for `delay_ns` from now."""
        self._sequence += 1
        heapq.heappush(self._agenda, (self.now + delay_ns, self._sequence, action, arguments))

    def step(self) -> bool:
        """Let the next event happen. False when nothing is planned."""
        if not self._agenda:
            return False
        self.now, _, action, arguments = heapq.heappop(self._agenda)
        action(*arguments)
        return True

    def run_until(self, time_ns: int) -> None:
        """Let everything happen that is planned up to and including `time_ns`."""
        agenda = self._agenda
        pop = heapq.heappop
        while agenda and agenda[0][0] <= time_ns:
            self.now, _, action, arguments = pop(agenda)
            action(*arguments)
        self.now = max(self.now, time_ns)

    def __len__(self) -> int:
        return len(self._agenda)
