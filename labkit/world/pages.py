"""Traces in pieces, for a picture that follows one: recorded ones, and live ones that only grow.

A piece says how everybody looked before its first event (`base`) and what each event changed, so
that whoever holds it can step forward and backward without asking again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from labkit.world.sim.trace import Event, Trace

__all__ = ["RollingTrace", "piece", "recorded"]

State = dict[str, Any]


def _fold(states: dict[int, State], events: Iterable[Event]) -> None:
    for event in events:
        if event.changes:
            states[event.node] = {**states.get(event.node, {}), **event.changes}


def piece(
    meta: Mapping[str, Any],
    base: Mapping[int, State],
    events: Iterable[Event],
    first: int,
    *,
    live: bool,
    dropped: int = 0,
) -> dict[str, Any]:
    """A piece as plain values. `first` is the number of its first event, `dropped` how many before
    it were asked for and are forgotten."""
    told = [
        {
            "step": first + offset,
            "t_ns": event.time_ns,
            "kind": event.kind,
            "node": event.node,
            "detail": event.detail,
            "state": event.changes,
        }
        for offset, event in enumerate(events)
    ]
    return {
        "live": live,
        "meta": dict(meta),
        "base": {str(node): state for node, state in sorted(base.items())},
        "events": told,
        "next": first + len(told) - 1,
        "dropped": dropped,
    }


def recorded(trace: Trace) -> dict[str, Any]:
    """A whole recorded run as one piece."""
    return piece(trace.meta, {}, trace.events, 0, live=False)


class RollingTrace:
    """The last `keep` events of something that goes on."""

    def __init__(self, meta: Mapping[str, Any] | None = None, *, keep: int = 5000) -> None:
        self.meta = dict(meta or {})
        self._keep = keep
        self._events: deque[Event] = deque()
        self._first = 0
        self._base: dict[int, State] = {}
        self._now: dict[int, State] = {}

    @property
    def last(self) -> int:
        """The number of the latest event; -1 when there is none."""
        return self._first + len(self._events) - 1

    def record(
        self,
        time_ns: int,
        kind: str,
        node: int = 0,
        detail: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> int:
        """Add an event; `state` is the node's whole visible state after it. Returns its number."""
        changes: State = {}
        if state is not None:
            now = self._now.get(node, {})
            changes = {
                field: value
                for field, value in state.items()
                if field not in now or now[field] != value
            }
            if changes:
                self._now[node] = {**now, **changes}
        self._events.append(Event(time_ns, kind, node, dict(detail or {}), changes))
        if len(self._events) > self._keep:
            _fold(self._base, (self._events.popleft(),))
            self._first += 1
        return self.last

    def page(self, after: int = -1, limit: int = 2000) -> dict[str, Any]:
        """Up to `limit` events after number `after`; ask again with the answer's `next`."""
        start = max(after + 1, self._first)
        skipped = start - self._first
        base = dict(self._base)
        _fold(base, islice(self._events, skipped))
        events = list(islice(self._events, skipped, skipped + limit))
        dropped = start - (after + 1)
        return piece(self.meta, base, events, start, live=True, dropped=dropped)
