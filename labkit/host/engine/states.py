"""The life of a container as one transition table.

    create ──▶ created ──start──▶ running ──die──▶ exited ──remove──▶ removing ──▶ (gone)
                                  │    ▲  ╲           │
                                pause unpause  die(restart policy)
                                  ▼    │     ╲        │
                                 paused      restarting ──start──▶ running

The engine refuses a change that is not in the table, so the picture in the notebook (the
lifecycle view reads `STATES` and `TRANSITIONS`) and what the code does cannot drift apart.
State words are those of Docker's `State.Status`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["STATES", "TRANSITIONS", "Action", "Change", "Status", "Transition", "successor"]

Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
Action = Literal[
    "create", "start", "start-failed", "pause", "unpause", "die", "die-restart",
    "give-up", "remove", "remove-failed",
]  # fmt: skip

STATES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Transition:
    """One allowed change. `source` None is "no such container yet"."""

    source: Status | None
    target: Status
    action: Action


@dataclass(frozen=True, slots=True)
class Change:
    """One change that happened to one container, kept for the lifecycle view."""

    state: Status
    at_ns: int
    action: Action


def _table() -> tuple[Transition, ...]:
    rows: list[tuple[Status | None, Status, Action]] = [
        (None, "created", "create"),
        ("created", "running", "start"),
        ("exited", "running", "start"),
        ("restarting", "running", "start"),
        # A process that cannot be started leaves the container where it was, except that one
        # which has run before, or was being restarted, counts as exited with the failure's code.
        ("created", "created", "start-failed"),
        ("exited", "exited", "start-failed"),
        ("restarting", "exited", "start-failed"),
        ("running", "paused", "pause"),
        ("paused", "running", "unpause"),
        ("running", "exited", "die"),
        ("paused", "exited", "die"),
        ("running", "restarting", "die-restart"),
        ("paused", "restarting", "die-restart"),
        ("restarting", "exited", "give-up"),
        ("created", "removing", "remove"),
        ("exited", "removing", "remove"),
        ("dead", "removing", "remove"),
        ("removing", "dead", "remove-failed"),
    ]
    return tuple(Transition(*row) for row in rows)


TRANSITIONS: tuple[Transition, ...] = _table()

_NEXT: dict[tuple[Status | None, Action], Status] = {
    (row.source, row.action): row.target for row in TRANSITIONS
}


def successor(source: Status | None, action: Action) -> Status | None:
    """The state `action` leads to from `source`, or None where the table forbids it."""
    return _NEXT.get((source, action))
