"""How long a cluster is without a leader after the old one was killed, in election timeouts.

Virtual time, a thousand seeds for each size. One election timeout is `election_ticks` (10 ticks of
10 ms); a follower waits one to two of them, at random.
"""

from __future__ import annotations

import sys

from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.world.sim.rng import seeded

MS = 1_000_000
SEEDS = 1000


def failover_ms(seed: int, servers: int) -> float:
    """From the kill to the moment at which another leader has committed something."""
    cluster = Cluster(seeded(seed), Settings(servers=servers))
    while cluster.leader() is None:
        cluster.run(10 * MS)
    cluster.run(200 * MS + cluster.rng.randrange(100 * MS))
    old = cluster.leader()
    assert old is not None
    killed = cluster.loop.now
    cluster.crash(old.id)
    while True:
        cluster.run(MS)
        leader = cluster.leader()
        if leader is not None and leader.node.log.term_at(leader.node.commit) == leader.node.term:
            return (cluster.loop.now - killed) / MS


def main(seeds: int = SEEDS) -> None:
    timeout_ms = 10 * Settings().tick_ns / MS
    print(
        f"{'servers':>10}{'median':>10}{'p90':>10}{'p99':>10}{'worst':>10}   in election timeouts"
    )
    for servers in (3, 5, 7):
        found = sorted(failover_ms(seed, servers) / timeout_ms for seed in range(seeds))
        marks = [found[int(len(found) * share)] for share in (0.5, 0.9, 0.99)]
        print(f"{servers:>10}" + "".join(f"{value:>10.2f}" for value in [*marks, found[-1]]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
