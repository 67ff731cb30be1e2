"""One seed, one world, one life: weather, faults and clients drawn from it, everything judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.cluster.linearizability import check_keys
from labkit.cluster.raft.errors import InvariantViolated
from labkit.cluster.raft.node import Options
from labkit.cluster.raft.simulation.clients import Clients
from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.cluster.raft.simulation.faults import ALL_KINDS, Faults
from labkit.cluster.raft.simulation.judge import Violation
from labkit.cluster.raft.simulation.tracing import TracedCluster
from labkit.world.ports import Rng
from labkit.world.sim.network import Link
from labkit.world.sim.rng import seeded
from labkit.world.sim.trace import Trace

__all__ = ["PROFILES", "Outcome", "Profile", "explore", "record", "weather"]

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Profile:
    """What a seed is made to look at: which faults, how often, in which part of the weather.

    `settings` and `options` replace what the seed drew; `every_ms` are mean times between faults,
    of which the seed chooses one; `clients` are arguments of Clients. `scale` stretches the run and
    its faults, for clocks that tick slower.
    """

    kinds: tuple[str, ...] = ALL_KINDS
    every_ms: tuple[int, ...] = (60, 200, 700)
    clients: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    scale: int = 1


PROFILES: dict[str, Profile] = {
    "everything": Profile(),
    "figure 3.7": Profile(
        kinds=("quarrel", "chase_leaders"),
        every_ms=(700,),
        settings={
            "servers": 5,
            "drift": 0.0,
            "tick_ns": 2_000_000,
            "sync_ns": 200_000,
            "link": Link(200_000, 400_000, loss=0.3),
        },
        options={
            "entries_per_message_max": 1,
            "inflight_max": 1,
            "check_quorum": False,
            "pre_vote": False,
        },
    ),
    "disorder": Profile(
        kinds=("clog", "pause", "crash_leader", "cut_off_leader"),
        settings={"link": Link(100_000, 8_000_000, loss=0.02, duplicate=0.2)},
        options={"entries_per_message_max": 1, "inflight_max": 16},
    ),
    "power": Profile(
        kinds=("reboot", "reboot_all", "crash", "crash_leader"),
        every_ms=(30, 100),
        settings={"sync_stall": 0.05},
    ),
    "membership": Profile(
        kinds=(
            "change",
            "change",
            "cut",
            "cut_off_leader",
            "side_with_learners",
            "reboot",
            "crash_leader",
        ),
        every_ms=(40, 120),
        settings={"servers": 5},
    ),
    "leases": Profile(
        kinds=(
            "cut_off_leader",
            "cut",
            "reboot",
            "clog",
            "pause_leader",
            "sleeper",
            "late_handover",
        ),
        every_ms=(300, 700),
        clients={"count": 10, "writes": 0.2, "pause_ns": 15_000_000, "patience_ns": 100_000_000},
        settings={"servers": 3, "drift": 0.05},
        options={"check_quorum": True, "lease_ticks": 8},
    ),
    "promises": Profile(
        kinds=("sleeper",),
        every_ms=(500,),
        clients={"count": 20, "writes": 0.06, "pause_ns": 40_000_000, "patience_ns": 100_000_000},
        settings={"servers": 3, "drift": 0.0, "link": Link(200_000, 100_000)},
        options={"check_quorum": True, "lease_ticks": 8},
    ),
    "docker": Profile(
        kinds=(*ALL_KINDS, "newcomer"),
        clients={"pause_ns": 2 * SECOND, "patience_ns": 20 * SECOND},
        settings={"tick_ns": SECOND},
        scale=100,
    ),
}
"""`everything` is the usual one; the others look harder at one corner. A lease of 8 ticks of 10
leaves 20 % for two clocks that are each at most 5 % off. `docker` has swarm's own timings: a tick a
second, elections after ten; networks and disks are as fast as in the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed led to; `failure` is None when every promise held."""

    seed: int
    profile: str
    seconds: float
    events: int
    committed: int
    operations: int
    faults: Counter[str]
    failure: str | None


def weather(rng: Rng) -> Settings:
    """A world: how many servers, how bad the links, disks and clocks are."""
    return Settings(
        servers=rng.choice((3, 3, 3, 5, 5, 7)),
        drift=rng.choice((0.0, 0.05, 0.1)),
        sync_stall=rng.choice((0.0, 0.001, 0.01)),
        link=Link(
            latency_ns=200_000,
            jitter_ns=rng.choice((100_000, 400_000, 3_000_000)),
            loss=rng.choice((0.0, 0.01, 0.1)),
            duplicate=rng.choice((0.0, 0.02)),
        ),
        options=Options(
            pre_vote=rng.random() < 0.8,
            check_quorum=rng.random() < 0.8,
            entries_per_message_max=rng.choice((1, 4, 64)),
            inflight_max=rng.choice((1, 4, 16)),
            snapshot_chunk_bytes=rng.choice((8, 4096)),
        ),
        compact_after=rng.choice((0, 10, 50)),
        compact_keep=rng.choice((0, 5)),
    )


def explore(
    seed: int,
    seconds: float = 20.0,
    profile: str | None = None,
    *,
    make: Callable[[Rng, Settings], Cluster] = Cluster,
) -> Outcome:
    """Live through one seed. Failures are returned, not raised, with what broke.

    `seconds` are those of a profile with scale 1. Without a `profile` (a name in PROFILES) the seed
    chooses: mostly `everything`. `make` builds the cluster: a traced one for `record` below.
    """
    rng = seeded(seed)
    settings = weather(rng)
    name = profile or _profile(rng)
    chosen = PROFILES[name]
    settings = replace(
        settings, **chosen.settings, options=replace(settings.options, **chosen.options)
    )
    cluster = make(rng, settings)
    clients = Clients(cluster, **chosen.clients)
    every_ns = rng.choice(chosen.every_ms) * SECOND // 1000
    faults = Faults(cluster, every_ns, chosen.kinds, chosen.scale)
    failure: str | None = None
    try:
        cluster.run(int(seconds * SECOND) * chosen.scale)
        faults.stop()
        failure = _goes_on(cluster, SECOND * chosen.scale)
        wrong = check_keys(clients.finish())
        if wrong is not None:
            failure = f"linearizability broken: no order explains the history of {wrong}"
    except (Violation, InvariantViolated, AssertionError) as error:
        failure = f"{type(error).__name__}: {error}"
    return Outcome(
        seed,
        name,
        cluster.loop.now / SECOND,
        cluster.events,
        len(cluster.judge.commands()),
        len(clients.history),
        faults.counts,
        failure,
    )


def record(seed: int, seconds: float = 20.0, profile: str | None = None) -> tuple[Outcome, Trace]:
    """Live through one seed once more, and write everything down."""
    made: list[TracedCluster] = []

    def make(rng: Rng, settings: Settings) -> Cluster:
        made.append(TracedCluster(rng, settings, seed=seed, seconds=seconds, profile=profile))
        return made[0]

    outcome = explore(seed, seconds, profile, make=make)
    return outcome, made[0].trace


def _goes_on(cluster: Cluster, second_ns: int) -> str | None:
    """When nothing is broken any more a cluster must recover by itself, and soon."""
    for _ in range(100):
        cluster.run(second_ns // 10)
        leader = cluster.leader()
        if leader is None or leader.node.transferee:
            continue
        done: list[bool] = []
        cluster.propose(leader.id, "alive", "yes", lambda: done.append(True))  # noqa: B023
        cluster.run(second_ns)
        if done:
            return None
    return "stuck: ten seconds and more after the last fault nothing can be written"


def _profile(rng: Rng) -> str:
    return "everything" if rng.random() < 0.5 else rng.choice(sorted(PROFILES))
