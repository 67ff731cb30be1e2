"""What the members of a swarm are given: how fast to live, who the others are, where they are."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field

from labkit.cluster.raft.node import Options
from labkit.daemon.swarm.recorder import Recorder
from labkit.daemon.swarm.weather import Weather
from labkit.world.real.transport import Place

__all__ = ["MemberSettings", "Surroundings"]


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """How fast a member lives. `tick_s` is one tick; `options` count in ticks."""

    tick_s: float = 1.0
    options: Options = field(default_factory=Options)
    snapshot_every: int = 10_000
    keep: int = 500


@dataclass(slots=True)
class Surroundings:
    """What the members of one swarm share: who is who, the weather, the recorder, the disk threads.

    Without an `executor` syncs happen on the event loop; without a `recorder` nothing is drawn.
    """

    swarm: str
    names: dict[int, str]
    places: dict[int, Place]
    weather: Weather
    executor: Executor | None = None
    recorder: Recorder | None = None
