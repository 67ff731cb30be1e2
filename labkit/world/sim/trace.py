"""What happened in a simulated run, step by step, and how everybody looked after each step.

A trace is a list of events. An event may change the visible state of one node; only the fields that
changed are kept in the file, so a trace of ten thousand steps is some hundred kilobytes. In memory
each node has the list of its states, so that `state_at` looks any step up by bisection: stepping
back costs what stepping forward costs.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.errors import InvalidParameter

__all__ = ["Divergence", "Event", "Trace", "diff"]

FORMAT = 1


class Event(NamedTuple):
    """One step.

    `node` is who it happened to (0: the world), `detail` plain values, `changes` the fields of that
    node's state that are different now.
    """

    time_ns: int
    kind: str
    node: int
    detail: dict[str, Any]
    changes: dict[str, Any]


class Divergence(NamedTuple):
    """The first step at which two traces differ; None where one of them has ended."""

    step: int
    ours: Event | None
    theirs: Event | None


class Trace:
    """Events in order; step n is `trace.events[n]`."""

    __slots__ = ("_states", "_steps", "events", "meta")

    def __init__(self, meta: Mapping[str, Any] | None = None) -> None:
        """`meta` says what made the run: seed, settings."""
        self.meta = dict(meta or {})
        self.events: list[Event] = []
        self._steps: dict[int, list[int]] = {}
        self._states: dict[int, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self.events)

    def record(
        self,
        time_ns: int,
        kind: str,
        node: int = 0,
        detail: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> int:
        """Add an event; `state` is the node's whole visible state after it. Returns its step."""
        changes: dict[str, Any] = {}
        if state is not None:
            now = self._now(node)
            changes = {
                field: value
                for field, value in state.items()
                if field not in now or now[field] != value
            }
        return self._add(Event(time_ns, kind, node, dict(detail or {}), changes))

    def changed(self, node: int, state: Mapping[str, Any]) -> bool:
        """Whether a state differs from the last one recorded."""
        now = self._now(node)
        return any(field not in now or now[field] != value for field, value in state.items())

    def _now(self, node: int) -> dict[str, Any]:
        states = self._states.get(node)
        return states[-1] if states else {}

    def _add(self, event: Event) -> int:
        step = len(self.events)
        self.events.append(event)
        if event.changes:
            self._steps.setdefault(event.node, []).append(step)
            state = {**self._now(event.node), **event.changes}
            self._states.setdefault(event.node, []).append(state)
        return step

    # -- looking --------------------------------------------------

    def state_at(self, step: int) -> dict[int, dict[str, Any]]:
        """Every node's state after `step`; nodes that had not appeared yet are left out.

        The dictionaries belong to the trace: look, do not write.
        """
        found = {}
        for node in sorted(self._steps):
            place = bisect_right(self._steps[node], step)
            if place:
                found[node] = self._states[node][place - 1]
        return found

    def find(self, kinds: Iterable[str], start: int, *, backward: bool = False) -> int | None:
        """The next step after `start` (or the last before it) of one of these kinds."""
        wanted = frozenset(kinds)
        steps = range(start - 1, -1, -1) if backward else range(start + 1, len(self.events))
        return next((step for step in steps if self.events[step].kind in wanted), None)

    def digest(self) -> str:
        """SHA-256 of the saved form: equal digests are equal runs."""
        found = hashlib.sha256()
        for line in self._lines():
            found.update(line.encode())
        return found.hexdigest()

    # -- files --------------------------------------------------

    def _lines(self) -> Iterator[str]:
        yield json.dumps({"trace": FORMAT, **self.meta}, sort_keys=True) + "\n"
        for event in self.events:
            yield json.dumps(list(event), separators=(",", ":"), sort_keys=True) + "\n"

    def save(self, path: Path) -> None:
        """Write JSON lines: what made the run, then one event a line."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(self._lines())

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read a saved trace. Raises InvalidParameter when the file is none."""
        with path.open(encoding="utf-8") as file:
            try:
                head = json.loads(file.readline())
                if head.pop("trace", None) != FORMAT:
                    raise ValueError("its first line does not say so")
                trace = cls(head)
                for line in file:
                    time_ns, kind, node, detail, changes = json.loads(line)
                    trace._add(Event(time_ns, kind, node, detail, changes))
            except (ValueError, TypeError, AttributeError) as error:
                raise InvalidParameter(f"{path} is not a trace: {error}") from None
        return trace


def diff(ours: Trace, theirs: Trace) -> Divergence | None:
    """Where two runs part, or None when they are the same."""
    for step, (one, other) in enumerate(zip(ours.events, theirs.events, strict=False)):
        if one != other:
            return Divergence(step, one, other)
    shorter = min(len(ours), len(theirs))
    if len(ours) == len(theirs):
        return None
    rest = [trace.events[shorter] if len(trace) > shorter else None for trace in (ours, theirs)]
    return Divergence(shorter, rest[0], rest[1])
