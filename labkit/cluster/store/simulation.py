"""The store in the simulated world: members that fail, and clients who write down what they saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from labkit.base.errors import LabkitError
from labkit.cluster.linearizability import Operation, check_keys
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.errors import InvariantViolated
from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.cluster.raft.simulation.explore import Outcome, weather
from labkit.cluster.raft.simulation.faults import Faults
from labkit.cluster.raft.simulation.judge import Violation
from labkit.cluster.raft.simulation.server import Server
from labkit.cluster.store.commands import Command, Compare, Once, Put, Range, Txn
from labkit.cluster.store.errors import is_definite
from labkit.cluster.store.replica import Replica
from labkit.cluster.store.results import Result
from labkit.world.ports import Rng
from labkit.world.sim.rng import seeded

__all__ = [
    "Counters",
    "StoreClients",
    "StoreCluster",
    "StoreServer",
    "explore_store",
    "store_outcome",
]

MS = 1_000_000


class StoreServer(Server):
    """A server whose state machine is the store."""

    cluster: StoreCluster

    def boot(self) -> None:
        super().boot()
        # The simulated server compacts the journal itself; the replica must not do it as well.
        self.replica = Replica(self.node, snapshot_every=1 << 60)

    def advance(self) -> None:
        self.replica.tick()

    def _finish(self, effects: Effects) -> None:
        replies = self.replica.finish(effects)
        super()._finish(effects)
        for reply in replies:
            self.cluster.answered(reply.request, reply.answer)

    def apply(self, command: Any) -> None:
        """The replica has done it already."""

    def save(self) -> bytes:
        return self.replica.machine.snapshot()

    def load(self, data: bytes) -> None:
        """The replica has done it already."""


class StoreCluster(Cluster):
    """A Cluster of StoreServers; requests are numbers."""

    def __init__(self, rng: Rng, settings: Settings | None = None) -> None:
        self._asked: dict[int, Callable[[Result | LabkitError], None]] = {}
        self._number = 0
        super().__init__(rng, settings)

    def make_server(self, server_id: int) -> Server:
        return StoreServer(self, server_id)

    def request(
        self, server_id: int, command: Command, done: Callable[[Result | LabkitError], None]
    ) -> bool:
        """Ask one member; False when it refuses, which is definite."""
        server = self.servers[server_id]
        assert isinstance(server, StoreServer)
        if not server.up or server.paused:
            return False
        self._number += 1
        number = self._number
        self._asked[number] = done
        replica = server.replica
        try:
            if isinstance(command, Range):
                server.act(lambda _: replica.query(number, command))
            else:
                server.act(lambda _: replica.submit(number, command))
        except LabkitError:
            del self._asked[number]
            return False
        return True

    def answered(self, request: Any, answer: Result | LabkitError) -> None:
        """A reply has left a member."""
        done = self._asked.pop(request, None)
        if done is not None:
            done(answer)


class StoreClients:
    """Clients who write, read and compare-and-swap a few keys."""

    def __init__(self, cluster: StoreCluster, count: int = 5, keys: int = 3) -> None:
        self._cluster = cluster
        self._keys = keys
        self._names = count
        self._value = 0
        self.history: list[Operation] = []
        self._open: dict[int, Operation] = {}
        self._seen: dict[str, str | None] = {}
        for name in range(count):
            self._later(name)

    def _later(self, name: int) -> None:
        delay = int(self._cluster.rng.expovariate(1.0) * 20 * MS)
        self._cluster.loop.after(delay, self._act, name)

    def _act(self, name: int) -> None:
        cluster, rng = self._cluster, self._cluster.rng
        key = f"k{rng.randrange(self._keys)}"
        self._value += 1
        value = str(self._value)
        kind = rng.choice(("write", "read", "swap"))
        command: Command = Range(key)
        content: Any = None
        if kind == "write":
            command, content = Put(key, value), value
        elif kind == "swap":
            expected = self._seen.get(key)
            same = Compare(key, "value", "=", expected or "")
            command = Txn((same,), (Put(key, value),))
            content = (expected, value, None)
        operation = Operation(name, key, kind, content, cluster.loop.now, None)
        self._open[name] = operation
        leader = cluster.leader()
        server = rng.choice(sorted(cluster.servers))
        if leader is not None and kind != "read" and rng.random() < 0.9:
            server = leader.id
        if not cluster.request(server, command, lambda answer: self._end(operation, answer)):
            del self._open[name]
            self._later(name)
        elif name in self._open:
            cluster.loop.after(1000 * MS, self._give_up, operation)

    def _end(self, operation: Operation, answer: Result | LabkitError) -> None:
        name = operation.client
        if self._open.get(name) is not operation:
            return
        if isinstance(answer, LabkitError):
            if is_definite(answer) or operation.kind == "read":
                del self._open[name]
                self._later(name)
            else:
                self._give_up(operation)
            return
        del self._open[name]
        value = operation.value
        if operation.kind == "read":
            value = answer.values[0].value if answer.values else None
            self._seen[operation.key] = value
        elif operation.kind == "swap":
            value = (*value[:2], answer.succeeded)
        self.history.append(operation._replace(value=value, returned=self._cluster.loop.now))
        self._later(name)

    def _give_up(self, operation: Operation) -> None:
        if self._open.get(operation.client) is operation:
            del self._open[operation.client]
            self.history.append(operation)
            self._names += 1
            self._later(self._names)

    def finish(self) -> list[Operation]:
        """The whole history, with what is still open as open."""
        return [*self.history, *self._open.values()]


class Counters:
    """Clients who write a key of their own again and again, and send what was not answered again.

    A key's `version` counts its writes: with sessions it equals the commands that were answered,
    give or take the one that is on its way.
    """

    def __init__(self, cluster: StoreCluster, count: int = 3, *, sessions: bool = True) -> None:
        self._cluster = cluster
        self._sessions = sessions
        self.answered = dict.fromkeys([f"counter-{number}" for number in range(count)], 0)
        self.repeats = 0
        for name in self.answered:
            self._send(name, 1)

    def _send(self, name: str, number: int) -> None:
        put = Put(name, str(number))
        command: Command = Once(name, number, put) if self._sessions else put
        cluster = self._cluster
        leader = cluster.leader()
        everybody = sorted(cluster.servers)
        server = leader.id if leader is not None else cluster.rng.choice(everybody)

        def done(answer: Result | LabkitError) -> None:
            if self.answered[name] == number - 1 and not isinstance(answer, LabkitError):
                self.answered[name] = number
                cluster.loop.after(20 * MS, self._send, name, number + 1)

        cluster.request(server, command, done)
        cluster.loop.after(150 * MS, self._again, name, number)

    def _again(self, name: str, number: int) -> None:
        if self.answered[name] < number:
            self.repeats += 1
            self._send(name, number)


def _stage(seed: int) -> tuple[StoreCluster, StoreClients, Faults]:
    rng = seeded(seed)
    settings = weather(rng)
    cluster = StoreCluster(rng, replace(settings, servers=rng.choice((3, 5))))
    clients = StoreClients(cluster)
    return cluster, clients, Faults(cluster, rng.choice((100, 300, 700)) * MS)


def explore_store(seed: int, seconds: float = 10.0) -> tuple[StoreCluster, list[Operation]]:
    """Live through one seed with the store; the history is for the linearizability checker."""
    cluster, clients, _ = _stage(seed)
    cluster.run(int(seconds * 1000 * MS))
    return cluster, clients.finish()


def store_outcome(seed: int, seconds: float = 10.0) -> Outcome:
    """Live through one seed with the store; failures are returned, as `explore` does."""
    failure: str | None = None
    cluster, clients, faults = _stage(seed)
    history: list[Operation] = []
    try:
        cluster.run(int(seconds * 1000 * MS))
        history = clients.finish()
        wrong = check_keys(history)
        if wrong is not None:
            failure = f"linearizability broken: no order explains the history of {wrong}"
    except (Violation, InvariantViolated, AssertionError) as error:
        failure = f"{type(error).__name__}: {error}"
    return Outcome(
        seed,
        "store",
        cluster.loop.now / (1000 * MS),
        cluster.events,
        len(cluster.judge.commands()),
        len(history),
        faults.counts,
        failure,
    )
