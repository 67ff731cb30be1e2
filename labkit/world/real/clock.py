"""The machine's own clocks."""

from __future__ import annotations

import time

__all__ = ["MonotonicClock"]


class MonotonicClock:
    """Never runs backwards; stands still while the machine sleeps. Its zero is arbitrary."""

    __slots__ = ()

    def now_ns(self) -> int:
        """Nanoseconds since some fixed moment (the Clock port)."""
        return time.monotonic_ns()

    def used_ns(self) -> int:
        """Nanoseconds of processor time that this process has had."""
        return time.process_time_ns()
