"""Writes down what the managers do, for whoever looks; bounded, and thinner when much happens."""

from __future__ import annotations

import asyncio
from typing import Any

from labkit.world.pages import RollingTrace
from labkit.world.real.clock import MonotonicClock

__all__ = ["Recorder"]

_BUSY_EVENTS = 400
_BUSY_WINDOW_NS = 100_000_000
_FREQUENT = frozenset({"tick", "send", "deliver", "write", "apply", "change", "propose"})


class Recorder:
    """A rolling trace with the wall clock's time, and a bell for those who wait for news.

    Beyond four events a millisecond the frequent kinds are left out until the window is over: a
    picture could not show them, and writing them down would slow down what it shows.
    """

    def __init__(self, meta: dict[str, Any]) -> None:
        self.trace = RollingTrace(meta)
        self._clock = MonotonicClock()
        self._began_ns = self._clock.now_ns()
        self._window_ns = 0
        self._in_window = 0
        self._left_out = 0
        self._bell = asyncio.Event()

    def is_thinning(self, kind: str) -> bool:
        """Whether an event of this kind would be left out now; asked before its state is drawn."""
        now = self._clock.now_ns()
        if now - self._window_ns > _BUSY_WINDOW_NS:
            self._window_ns, self._in_window = now, 0
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                self.note(f"({left_out} events in a moment, too many to show)")
        if self._in_window >= _BUSY_EVENTS and kind in _FREQUENT:
            self._left_out += 1
            return True
        return False

    def record(
        self,
        kind: str,
        node: int = 0,
        detail: dict[str, Any] | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Write one event down."""
        self._in_window += 1
        self.trace.record(self._clock.now_ns() - self._began_ns, kind, node, detail, state)
        self._bell.set()

    def note(self, text: str) -> None:
        """A sentence for whoever looks."""
        self.record("note", 0, {"text": text})

    async def wait(self, after: int, seconds: float) -> None:
        """Until there is something after event `after`, or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while self.trace.last <= after:
                    self._bell.clear()
                    await self._bell.wait()
        except TimeoutError:
            return
