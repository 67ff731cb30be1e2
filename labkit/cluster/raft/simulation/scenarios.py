"""Ready-made stories as traces, for the Raft view: each runs the real implementation.

A story is a function of a TracedCluster; the notes it leaves in the trace are its captions. The
world is calm and slow, so that messages can be watched: 40 ms for a message, 20 ms for a disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.node import Options
from labkit.cluster.raft.simulation.cluster import Settings
from labkit.cluster.raft.simulation.server import Server
from labkit.cluster.raft.simulation.tracing import TracedCluster
from labkit.world.sim.network import Link
from labkit.world.sim.rng import seeded
from labkit.world.sim.trace import Trace

__all__ = ["SCENARIOS", "Scenario", "play"]

MS = 1_000_000
SIZES = range(3, 10)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`title` is for people; `servers` is the size it is told with unless asked otherwise.

    `jitter_ms` is how much longer than 40 ms a message takes, on average.
    """

    title: str
    tell: Callable[[TracedCluster], None]
    servers: int = 5
    seed: int = 1
    jitter_ms: int = 5


def play(name: str, servers: int | None = None, seed: int | None = None) -> Trace:
    """The trace of a scenario. Raises InvalidParameter for an unknown name or size."""
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise InvalidParameter(f"there is no scenario {name!r}", hint=f"try {', '.join(SCENARIOS)}")
    size = scenario.servers if servers is None else servers
    if size not in SIZES:
        raise InvalidParameter(f"a scenario has 3 to 9 servers, not {size}")
    chosen = scenario.seed if seed is None else seed
    settings = Settings(
        servers=size,
        tick_ns=100 * MS,
        sync_ns=20 * MS,
        link=Link(latency_ns=40 * MS, jitter_ns=scenario.jitter_ms * MS),
        options=Options(pre_vote=False),
    )
    cluster = TracedCluster(
        seeded(chosen), settings, scenario=name, title=scenario.title, servers=size, seed=chosen
    )
    scenario.tell(cluster)
    return cluster.trace


# -- stories -------------------------------------------------------------------------------------


def _wait_for_leader(cluster: TracedCluster, limit_ms: int = 20_000) -> Server:
    for _ in range(limit_ms // 10):
        found = cluster.leader()
        if found is not None:
            return found
        cluster.run(10 * MS)
    raise InvalidParameter("nobody was elected in this story", hint="take another seed")


def _write(cluster: TracedCluster, server: Server, value: str, wait_ms: int = 400) -> None:
    cluster.propose(server.id, "x", value)
    cluster.run(wait_ms * MS)


def _election(cluster: TracedCluster) -> None:
    cluster.note("Everybody starts as a follower and waits for a leader's word.")
    leader = _wait_for_leader(cluster)
    cluster.note(f"Server {leader.id} was first to lose patience, and a majority voted for it.")
    cluster.run(300 * MS)
    cluster.note("A client writes: append, send, a majority answers, committed.")
    _write(cluster, leader, "a")
    _write(cluster, leader, "b")
    cluster.note("The leader is killed. Its followers notice by its silence.")
    cluster.crash(leader.id)
    _wait_for_leader(cluster)
    cluster.run(400 * MS)
    cluster.note("It comes back, and follows.")
    cluster.restart(leader.id)
    cluster.run(800 * MS)


def _split_vote(cluster: TracedCluster) -> None:
    cluster.note("Two servers lose patience at the same moment.")
    first, second = cluster.servers[1], cluster.servers[2]
    for server in cluster.servers.values():
        server.node.election_timeout = 18
    first.node.election_timeout = second.node.election_timeout = 10
    others = sorted(cluster.servers)[2:]
    half = len(others) // 2
    # Their requests race; here each half of the others hears one of them much sooner.
    cluster.network.clog(1, 2, 1500 * MS)
    for candidate, far in ((1, others[half : 2 * half]), (2, others[:half])):
        for other in far:
            cluster.network.clog(candidate, other, 1300 * MS)
    for other in others[2 * half :]:
        cluster.network.cut([1, 2], [other])
    cluster.run(1600 * MS)
    cluster.network.heal()
    cluster.note("Nobody has a majority. Random timeouts decide who tries again first.")
    _wait_for_leader(cluster)
    cluster.run(600 * MS)


def _divergence(cluster: TracedCluster) -> None:
    leader = _wait_for_leader(cluster)
    cluster.run(300 * MS)
    _write(cluster, leader, "a")
    cluster.note("The leader is cut off and goes on appending what nobody hears.")
    others = [server for server in cluster.servers if server != leader.id]
    cluster.network.cut([leader.id], others)
    for value in ("lost 1", "lost 2", "lost 3"):
        _write(cluster, leader, value, 150)
    cluster.note("The others elect a leader, who accepts other commands at the same places.")
    for _ in range(300):
        cluster.run(10 * MS)
        new = cluster.leader()
        if new is not None and new.id != leader.id:
            break
    new = _wait_for_leader(cluster)
    for value in ("b", "c"):
        _write(cluster, new, value, 250)
    cluster.note("The network heals: the old log is wound back to where they agree, and repaired.")
    cluster.network.heal()
    cluster.run(1500 * MS)


def _minority_leader(cluster: TracedCluster) -> None:
    leader = _wait_for_leader(cluster)
    cluster.run(300 * MS)
    few = [leader.id]
    for server in sorted(cluster.servers):
        if server != leader.id and len(few) < (len(cluster.servers) - 1) // 2:
            few.append(server)
    rest = [server for server in cluster.servers if server not in few]
    cluster.note(f"Servers {few} are cut off from {rest}; the leader is among the few.")
    cluster.network.cut(few, rest)
    cluster.propose(leader.id, "x", "never committed")
    cluster.run(600 * MS)
    cluster.note("Without a majority nothing is committed, and after a while it steps down.")
    cluster.run(2500 * MS)
    new = _wait_for_leader(cluster)
    cluster.note(f"The majority goes on under server {new.id}.")
    _write(cluster, new, "committed")
    cluster.note("Healed: the few take over what the majority decided.")
    cluster.network.heal()
    cluster.run(1500 * MS)


def _old_leader(cluster: TracedCluster) -> None:
    leader = _wait_for_leader(cluster)
    cluster.run(300 * MS)
    cluster.note("The leader stands still (a long garbage collection, a suspended laptop).")
    leader.pause()
    cluster.run(500 * MS)
    for _ in range(400):
        cluster.run(10 * MS)
        found = [s for s in cluster.servers.values() if s.node.leader == s.id and s is not leader]
        if found:
            break
    cluster.run(500 * MS)
    cluster.note("It wakes up and still thinks that it leads; a higher term tells it otherwise.")
    leader.resume()
    cluster.propose(leader.id, "x", "too late")
    cluster.run(1500 * MS)


def _latency(cluster: TracedCluster) -> None:
    leader = _wait_for_leader(cluster)
    cluster.run(500 * MS)
    cluster.note(f"{len(cluster.servers)} servers: how long until a write is committed?")
    took: list[int] = []
    for number in range(15):
        began = cluster.loop.now
        cluster.propose(leader.id, "x", number, lambda: took.append(cluster.loop.now - began))  # noqa: B023
        cluster.run(400 * MS)
        if len(took) == number + 1:
            cluster.note(f"write {number + 1}: {took[-1] / MS:.0f} ms")
    if took:
        middle = sorted(took)[len(took) // 2]
        needed = len(cluster.servers) // 2 + 1
        cluster.note(f"median {middle / MS:.0f} ms: {needed} disks of {len(cluster.servers)}")
    cluster.run(800 * MS)


SCENARIOS: dict[str, Scenario] = {
    "election": Scenario("A leader is elected, falls, and comes back", _election),
    "split-vote": Scenario("A split vote", _split_vote),
    "divergence": Scenario("Logs diverge and are repaired", _divergence),
    "minority-leader": Scenario("A leader without a majority", _minority_leader),
    "old-leader": Scenario("An old leader returns", _old_leader),
    "latency": Scenario("How long a decision takes", _latency, servers=3, jitter_ms=25),
}
