"""Docker's timings and those of a lesson."""

from __future__ import annotations

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.node import Options
from labkit.daemon.swarm.surroundings import MemberSettings

__all__ = ["CLOCKS", "settings_for"]

CLOCKS: dict[str, float] = {"docker": 1.0, "fast": 0.05}
"""Seconds a tick takes. `docker` is what swarm does: a tick a second, a heartbeat every tick, an
election after ten to twenty silent ticks. `fast` is twenty times that, for lessons."""


def settings_for(clock: str) -> MemberSettings:
    """How fast managers live. Raises InvalidParameter for an unknown clock."""
    tick_s = CLOCKS.get(clock)
    if tick_s is None:
        raise InvalidParameter(f"there is no clock {clock!r}", hint=f"one of: {', '.join(CLOCKS)}")
    return MemberSettings(tick_s, Options(election_ticks=10, heartbeat_ticks=1))
