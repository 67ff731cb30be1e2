"""Restart policies: whether an ended container starts again, and after how long.

Docker's rules: the first wait is 100 ms, each further one twice as long, up to a minute; a run of
ten seconds or more counts as success and the wait begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.host.engine.container import State
from labkit.host.engine.hostconfig import RestartPolicy

__all__ = ["Decision", "after_exit", "on_engine_start"]

_FIRST_MS = 100
_MAX_MS = 60_000
_GOOD_RUN_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Decision:
    """Start again after `wait_ms`, or not."""

    restart: bool
    wait_ms: int = 0


def after_exit(policy: RestartPolicy, state: State, *, code: int, ran_ns: int) -> Decision:
    """What to do when a process has ended with `code` after running for `ran_ns`."""
    if state.manually_stopped:
        return Decision(False)
    if policy.name in ("always", "unless-stopped"):
        restart = True
    elif policy.name == "on-failure":
        limit = policy.maximum_retry_count
        restart = code != 0 and (limit == 0 or state.restart_count < limit)
    else:
        restart = False
    if not restart:
        return Decision(False)
    previous = 0 if ran_ns >= _GOOD_RUN_NS else state.backoff_ms
    return Decision(True, min(2 * previous or _FIRST_MS, _MAX_MS))


def on_engine_start(policy: RestartPolicy, state: State) -> bool:
    """Whether a container found not running when the engine starts is to be started.

    `always` does so even for one that was stopped by hand; `unless-stopped` is the policy that
    remembers. A container that never ran is left alone.
    """
    if not state.started_at_ns:
        return False
    if policy.name == "always":
        return True
    if policy.name == "unless-stopped":
        return not state.manually_stopped
    if policy.name == "on-failure":
        limit = policy.maximum_retry_count
        return (
            not state.manually_stopped
            and state.exit_code != 0
            and (limit == 0 or state.restart_count < limit)
        )
    return False
