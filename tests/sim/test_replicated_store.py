"""The replicated store under faults: its clients see one copy."""

from __future__ import annotations

from collections import Counter

from labkit.cluster.linearizability import check_keys
from labkit.cluster.raft.simulation.cluster import Settings
from labkit.cluster.store import Grant, Indefinite, Machine, Put, Range
from labkit.cluster.store.machine import Result
from labkit.cluster.store.simulation import StoreCluster, StoreServer, explore_store
from labkit.world.sim.rng import seeded

MS = 1_000_000


def test_histories_are_linearizable() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(12):
        _, history = explore_store(seed)
        kinds.update(operation.kind for operation in history if operation.returned is not None)
        assert check_keys(history) is None, f"seed {seed}"
    assert min(kinds[kind] for kind in ("write", "read", "swap")) > 100, kinds


def test_members_that_applied_the_same_hold_the_same() -> None:
    cluster, _ = explore_store(3)
    states: dict[int, set[bytes]] = {}
    for server in cluster.servers.values():
        assert isinstance(server, StoreServer)
        states.setdefault(server.replica.applied, set()).add(server.replica.machine.snapshot())
    assert all(len(found) == 1 for found in states.values())


def settled(**settings: object) -> StoreCluster:
    cluster = StoreCluster(seeded(1), Settings(**settings))  # type: ignore[arg-type]
    cluster.run(1000 * MS)
    return cluster


def ask(cluster: StoreCluster, command: object, server: int | None = None) -> object:
    answers: list[object] = []
    leader = cluster.leader()
    assert leader is not None
    assert cluster.request(server or leader.id, command, answers.append)  # type: ignore[arg-type]
    cluster.run(500 * MS)
    return answers[0] if answers else None


def test_what_is_written_at_the_leader_is_read_anywhere() -> None:
    cluster = settled()
    ask(cluster, Put("k", "v"))
    for server in cluster.servers:
        found = ask(cluster, Range("k"), server)
        assert isinstance(found, Result)
        assert [kv.value for kv in found.values] == ["v"]


def test_a_lease_that_nobody_renews_runs_out_also_under_a_new_leader() -> None:
    cluster = settled()
    ask(cluster, Grant(1, 300))
    ask(cluster, Put("k", "v", 1))
    old = cluster.leader()
    assert old is not None
    cluster.crash(old.id)
    cluster.run(1000 * MS)
    found = ask(cluster, Range("k"))
    assert isinstance(found, Result)
    assert found.values
    cluster.run(4000 * MS)
    found = ask(cluster, Range("k"))
    assert isinstance(found, Result)
    assert not found.values


def test_a_lease_that_is_renewed_lives_on() -> None:
    cluster = settled()
    ask(cluster, Grant(1, 100))
    ask(cluster, Put("k", "v", 1))
    leader = cluster.leader()
    assert isinstance(leader, StoreServer)
    for _ in range(10):
        leader.replica.keep_alive(1)
        cluster.run(500 * MS)
    assert leader.replica.machine.range(Range("k")).values


def test_a_write_at_a_leader_that_is_cut_off_does_not_end_well() -> None:
    cluster = settled()
    leader = cluster.leader()
    assert leader is not None
    others = [server for server in cluster.servers if server != leader.id]
    cluster.network.cut([leader.id], others)
    answers: list[object] = []
    assert cluster.request(leader.id, Put("k", "lost"), answers.append)
    cluster.run(1000 * MS)
    assert answers == []
    for number in range(5):
        ask(cluster, Put("k", str(number)))
    cluster.network.heal()
    cluster.run(1000 * MS)
    (answer,) = answers
    assert getattr(answer, "definite", None) in (True, False)
    assert not isinstance(answer, Result)


def test_a_member_far_behind_catches_up_by_a_snapshot() -> None:
    cluster = settled(compact_after=20)
    leader = cluster.leader()
    assert leader is not None
    away = next(server for server in cluster.servers if server != leader.id)
    cluster.crash(away)
    for number in range(60):
        assert cluster.request(leader.id, Put(f"k{number % 7}", str(number)), lambda answer: None)
        cluster.run(20 * MS)
    cluster.restart(away)
    cluster.run(1000 * MS)
    one, other = cluster.servers[leader.id], cluster.servers[away]
    assert isinstance(one, StoreServer)
    assert isinstance(other, StoreServer)
    assert other.node.log.snapshot_index > 0
    assert one.replica.machine.snapshot() == other.replica.machine.snapshot()
    assert isinstance(Machine.restore(b""), Machine)
    assert Indefinite.definite is False
