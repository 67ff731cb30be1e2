"""Raft: simulated events a second, and committed writes a second beside PySyncObj's.

Prints a table and asserts nothing. PySyncObj is compared when it is installed
(`pip install pysyncobj`); both sides have three members in one process on the loopback or in
memory, without a disk, and one client who keeps many writes on their way.
"""

from __future__ import annotations

import importlib.util
import socket
import time
from dataclasses import replace

from labkit.cluster.raft import Config, Node, Role
from labkit.cluster.raft.simulation.clients import Clients
from labkit.cluster.raft.simulation.cluster import Cluster
from labkit.cluster.raft.simulation.explore import weather
from labkit.cluster.raft.simulation.faults import Faults
from labkit.cluster.store import Put, Replica
from labkit.world.sim.rng import seeded

MS = 1_000_000
WRITES = 20_000
BATCH = 100


def events_a_second(judge_every: int, seeds: int = 12) -> float:
    """Simulated events over processor time, in the usual weather with the usual faults."""
    events, began = 0, time.process_time()
    for seed in range(seeds):
        rng = seeded(seed)
        cluster = Cluster(rng, replace(weather(rng), judge_every=judge_every))
        Clients(cluster)
        Faults(cluster)
        cluster.run(20_000 * MS)
        events += cluster.events
    return events / (time.process_time() - began)


def store_writes_a_second() -> float:
    """Three replicas of the store in one process, messages handed over in memory."""
    config = Config(frozenset((1, 2, 3)))
    replicas = {n: Replica(Node(n, config, seeded(n))) for n in (1, 2, 3)}
    while not any(r.node.role is Role.LEADER for r in replicas.values()):
        for replica in replicas.values():
            replica.tick()
        _exchange(replicas)
    leader = next(r for r in replicas.values() if r.node.role is Role.LEADER)
    done, began = 0, time.process_time()
    for first in range(0, WRITES, BATCH):
        for number in range(first, first + BATCH):
            leader.submit(number, Put(f"k{number % 100}", str(number)))
        done += _exchange(replicas)
        for replica in replicas.values():
            replica.tick()
        done += _exchange(replicas)
    assert done == WRITES
    return done / (time.process_time() - began)


def _exchange(replicas: dict[int, Replica]) -> int:
    replies, moving = 0, True
    while moving:
        moving = False
        for replica in replicas.values():
            effects = replica.take()
            if not effects:
                continue
            moving = True
            for target, message in effects.messages:
                replicas[target].receive(message)
            replies += len(replica.finish(effects))
    return replies


def peer_writes_a_second() -> float | str:
    """PySyncObj's own replicated counter with three members, over loopback TCP."""
    if importlib.util.find_spec("pysyncobj") is None:
        return "not installed (pip install pysyncobj)"
    from pysyncobj import SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found]

    class Peer(SyncObj):  # type: ignore[misc]
        def __init__(self, own: str, others: list[str]) -> None:
            super().__init__(
                own, others, conf=SyncObjConf(autoTick=False, appendEntriesUseBatch=True)
            )
            self.data: dict[str, str] = {}

        @replicated  # type: ignore[misc]
        def put(self, key: str, value: str) -> None:
            self.data[key] = value

    addresses = [f"127.0.0.1:{port}" for port in _free_ports(3)]
    peers = [Peer(own, [a for a in addresses if a != own]) for own in addresses]
    try:
        deadline = time.monotonic() + 20
        while not all(peer._isReady() for peer in peers):
            if time.monotonic() > deadline:
                return "its three members did not find each other"
            for peer in peers:
                peer.doTick(0.01)
        leader = next(peer for peer in peers if peer._isLeader())
        done: list[int] = []
        total = WRITES // 10
        began = time.process_time()
        for first in range(0, total, BATCH):
            for number in range(first, first + BATCH):
                leader.put(
                    f"k{number % 100}", str(number), callback=lambda _, error: done.append(error)
                )
            while len(done) < first + BATCH:
                for peer in peers:
                    peer.doTick(0.0)
        return total / (time.process_time() - began)
    finally:
        for peer in peers:
            peer.destroy()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def main() -> None:
    full, sampled = events_a_second(1), events_a_second(100)
    ours, theirs = store_writes_a_second(), peer_writes_a_second()
    rows = [
        ("simulated events/s, every promise at every event", f"{full:,.0f}"),
        ("simulated events/s, promises at one event in 100", f"{sampled:,.0f}"),
        ("committed writes/s, store, three members", f"{ours:,.0f}"),
        (
            "committed writes/s, PySyncObj, three members",
            theirs if isinstance(theirs, str) else f"{theirs:,.0f}",
        ),
    ]
    if isinstance(theirs, float):
        rows.append(("ratio", f"{ours / theirs:.1f}"))
    for name, value in rows:
        print(f"{name:<52}{value:>14}")
    print("(per second of processor time, on one core)")


if __name__ == "__main__":
    main()
