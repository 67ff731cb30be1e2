"""A member that comes back with an old copy of its disk is named, and nothing it says counts."""

from __future__ import annotations

import pytest

from labkit.cluster.raft import RestoredDisk, Role
from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.cluster.raft.simulation.explore import explore
from labkit.world.sim.rng import seeded

MS = 1_000_000


def test_a_restored_old_disk_is_noticed_by_its_leader() -> None:
    cluster = Cluster(seeded(4), Settings())
    cluster.run(1000 * MS)
    leader = cluster.leader()
    assert leader is not None
    follower = next(s for s in cluster.servers.values() if s is not leader)
    for number in range(5):
        cluster.propose(leader.id, "k", number)
        cluster.run(50 * MS)
    backup = list(follower.disk.records())
    for number in range(5):
        cluster.propose(leader.id, "k", number)
        cluster.run(50 * MS)
    cluster.crash(follower.id)
    follower.disk.replace(backup)
    cluster.restart(follower.id)
    with pytest.raises(RestoredDisk, match=f"node {follower.id} .* its disk is an old copy"):
        cluster.run(2000 * MS)
    assert leader.node.role is Role.LEADER
    assert leader.node.peers[follower.id].match > follower.node.log.last_index


def test_an_honest_restart_is_never_taken_for_an_old_disk() -> None:
    for seed in range(6):
        outcome = explore(seed, 5.0, "power")
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}"


def test_machines_with_empty_disks_join_a_cluster_under_faults() -> None:
    joined = 0
    for seed in range(3):
        outcome = explore(seed, 8.0, "docker")
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}"
        assert outcome.seconds >= 800
        joined += outcome.faults["newcomer"]
    assert joined
