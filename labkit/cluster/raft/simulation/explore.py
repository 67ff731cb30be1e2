"""One seed, one world, one life: weather, faults and clients drawn from it, everything judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from labkit.cluster.linearizability import check_keys
from labkit.cluster.raft.errors import InvariantViolated
from labkit.cluster.raft.node import Options
from labkit.cluster.raft.simulation.clients import Clients
from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.cluster.raft.simulation.faults import Faults
from labkit.cluster.raft.simulation.judge import Violation
from labkit.world.ports import Rng
from labkit.world.sim.network import Link
from labkit.world.sim.rng import seeded

__all__ = ["Outcome", "explore", "weather"]

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed led to; `failure` is None when every promise held."""

    seed: int
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


def explore(seed: int, seconds: float = 20.0) -> Outcome:
    """Live through one seed. Failures are returned, not raised, with what broke."""
    rng = seeded(seed)
    cluster = Cluster(rng, weather(rng))
    clients = Clients(cluster)
    faults = Faults(cluster, every_ns=rng.choice((60, 200, 700)) * SECOND // 1000)
    failure: str | None = None
    try:
        cluster.run(int(seconds * SECOND))
        wrong = check_keys(clients.finish())
        if wrong is not None:
            failure = f"linearizability broken: no order explains the history of {wrong}"
    except (Violation, InvariantViolated, AssertionError) as error:
        failure = f"{type(error).__name__}: {error}"
    return Outcome(
        seed,
        cluster.loop.now / SECOND,
        cluster.events,
        len(cluster.judge.commands()),
        len(clients.history),
        faults.counts,
        failure,
    )
