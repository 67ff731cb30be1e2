"""Clients that read and write registers through any server, and remember what they were told."""

from __future__ import annotations

from typing import Any

from labkit.cluster.linearizability import Operation
from labkit.cluster.raft.simulation.cluster import Cluster

__all__ = ["Clients"]

MS = 1_000_000


class Clients:
    """`count` clients, each with one operation at a time, on `keys` registers.

    `writes` is the share of operations that write; `pause_ns` the mean time between two of them.

    A client that waits longer than `patience_ns` gives up: it does not know whether its write
    happened, so it goes on under another name, as the history's rules demand.
    """

    def __init__(
        self,
        cluster: Cluster,
        count: int = 4,
        keys: int = 3,
        pause_ns: int = 20 * MS,
        patience_ns: int = 2_000 * MS,
        writes: float = 0.5,
    ) -> None:
        self._cluster = cluster
        self._keys = keys
        self._pause_ns = pause_ns
        self._patience_ns = patience_ns
        self._writes = writes
        self._names = count
        self._value = 0
        self.history: list[Operation] = []
        self._open: dict[int, Operation] = {}
        for name in range(count):
            self._next(name)

    def _next(self, name: int) -> None:
        delay = int(self._cluster.rng.expovariate(1.0) * self._pause_ns)
        self._cluster.loop.after(delay, self._act, name)

    def _act(self, name: int) -> None:
        cluster = self._cluster
        rng = cluster.rng
        server = rng.choice(sorted(cluster.servers))
        key = f"k{rng.randrange(self._keys)}"
        now = cluster.loop.now
        if rng.random() < self._writes:
            begun = self._write(name, server, key, now)
        else:
            operation = self._open[name] = Operation(name, key, "read", None, now, None)
            begun = cluster.read(server, lambda state: self._end(operation, state.get(key)))
        if not begun:
            del self._open[name]  # refused: it certainly did not happen
            self._next(name)
        elif name in self._open:
            cluster.loop.after(self._patience_ns, self._give_up, self._open[name])

    def _write(self, name: int, server: int, key: str, now: int) -> bool:
        self._value += 1
        value = self._value
        leader = self._cluster.leader()
        if leader is not None and self._cluster.rng.random() < 0.8:
            server = leader.id
        operation = self._open[name] = Operation(name, key, "write", value, now, None)
        return self._cluster.propose(server, key, value, lambda: self._end(operation, value))

    def _end(self, operation: Operation, value: Any) -> None:
        name = operation.client
        if self._open.get(name) is not operation:
            return  # it had been given up
        del self._open[name]
        self.history.append(operation._replace(value=value, returned=self._cluster.loop.now))
        self._next(name)

    def _give_up(self, operation: Operation) -> None:
        if self._open.get(operation.client) is not operation:
            return
        del self._open[operation.client]
        self.history.append(operation)
        self._names += 1
        self._next(self._names)

    def finish(self) -> list[Operation]:
        """The whole history, with what is still open as open."""
        return [*self.history, *self._open.values()]
