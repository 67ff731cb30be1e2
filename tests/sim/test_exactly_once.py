"""Exactly once, under faults: clients that send again never write twice, and would without."""

from __future__ import annotations

from labkit.cluster.raft.simulation.cluster import Settings
from labkit.cluster.raft.simulation.faults import Faults
from labkit.cluster.store import Range
from labkit.cluster.store.results import Result
from labkit.cluster.store.simulation import Counters, StoreCluster, StoreServer
from labkit.world.sim.network import Link
from labkit.world.sim.rng import seeded

MS = 1_000_000


def versions(seed: int, *, sessions: bool) -> tuple[dict[str, int], dict[str, int], int]:
    """What was answered, what was written, and how often something was sent again."""
    cluster = StoreCluster(seeded(seed), Settings(servers=3, link=Link(loss=0.1)))
    counters = Counters(cluster, sessions=sessions)
    faults = Faults(cluster, 300 * MS, kinds=("crash_leader", "cut_off_leader", "reboot", "cut"))
    cluster.run(8_000 * MS)
    faults.stop()
    cluster.run(3_000 * MS)
    answered = dict(counters.answered)
    server = max(
        (s for s in cluster.servers.values() if isinstance(s, StoreServer)), key=lambda s: s.applied
    )
    written = {}
    for name in answered:
        found = server.replica.machine.range(Range(name))
        assert isinstance(found, Result)
        written[name] = found.values[0].version if found.values else 0
    return answered, written, counters.repeats


def test_with_sessions_every_command_happens_exactly_once() -> None:
    repeats = 0
    for seed in range(6):
        answered, written, again = versions(seed, sessions=True)
        repeats += again
        for name, count in answered.items():
            assert count > 10
            assert written[name] in (count, count + 1), f"seed {seed}: {name}"
    assert repeats > 20


def test_without_sessions_the_same_clients_write_twice() -> None:
    twice = 0
    for seed in range(6):
        answered, written, _ = versions(seed, sessions=False)
        twice += sum(written[name] > answered[name] + 1 for name in answered)
    assert twice


def test_watches_on_every_member_see_the_same_changes_in_the_same_order() -> None:
    cluster = StoreCluster(seeded(2), Settings(servers=3))
    cluster.run(1_000 * MS)
    counters = Counters(cluster)
    heard: dict[int, list[tuple[int, str]]] = {}
    for server in cluster.servers.values():
        assert isinstance(server, StoreServer)
        server.replica.watches.add("w", "counter-", "counter.")
        heard[server.id] = []
    for _ in range(300):
        cluster.run(10 * MS)
        for server in cluster.servers.values():
            assert isinstance(server, StoreServer)
            for notice in server.replica.notices():
                heard[server.id] += [(event.revision, event.key) for event in notice.events]
    assert sum(counters.answered.values()) > 100
    longest = max(heard.values(), key=len)
    assert [revision for revision, _ in longest] == sorted({revision for revision, _ in longest})
    for found in heard.values():
        assert len(found) > 100
        assert found == longest[: len(found)]
