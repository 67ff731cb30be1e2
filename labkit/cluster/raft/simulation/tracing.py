"""A simulated cluster that writes down everything it does, for views and for comparing runs.

The traced kinds draw the same chances in the same order as the plain ones: the run is the same, and
a run that is not traced pays nothing.

Kinds of events: boot, crash, pause, resume, tick, deliver, propose, read, ask, write (the disk has
it), apply, send, lost, cut, clog, heal, note, change (of the state
only).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.picture import picture
from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.cluster.raft.simulation.server import Server
from labkit.cluster.raft.types import Message, NodeId
from labkit.cluster.raft.wire import pack
from labkit.world.ports import Rng
from labkit.world.sim.network import Link, Network
from labkit.world.sim.trace import Trace

__all__ = ["TracedCluster", "visible"]


def visible(server: Server) -> dict[str, Any]:
    """What a picture of a server shows, as plain values. `log` lists terms from `first` on."""
    return picture(
        server.node,
        up=server.up,
        paused=server.paused,
        applied=server.applied,
        unsynced=server.disk.unsynced,
    )


class TracedNetwork(Network):
    """Gives every message a number and tells when it leaves, arrives or is lost."""

    __slots__ = ("_number", "_record", "arriving")

    def __init__(self, *arguments: Any, record: Callable[..., None]) -> None:
        super().__init__(*arguments)
        self._number = 0
        self.arriving = 0
        """The number of the message that is being delivered."""
        self._record = record

    def send(self, source: int, target: int, message: Any) -> None:
        lost = self.lost
        super().send(source, target, message)
        if self.lost > lost:
            self._record("lost", source, {"to": target, "message": pack(message)})

    def _carry(self, pair: tuple[int, int], link: Link, message: Any) -> None:
        self._number += 1
        delay = self._delay(pair, link)
        self._record(
            "send",
            pair[0],
            {"to": pair[1], "id": self._number, "delay_ns": delay, "message": pack(message)},
        )
        self._loop.after(delay, self._land, pair, message, self._number)

    def _land(self, pair: tuple[int, int], message: Any, number: int) -> None:
        if pair in self._cut:
            self._record("lost", pair[0], {"to": pair[1], "id": number})
        self.arriving = number
        self._arrive(pair, message)

    def cut(self, sources: Iterable[int], targets: Iterable[int], *, both: bool = True) -> None:
        one, other = sorted(sources), sorted(targets)
        super().cut(one, other, both=both)
        self._record("cut", 0, {"from": one, "to": other, "both": both})

    def clog(self, source: int, target: int, duration_ns: int) -> None:
        super().clog(source, target, duration_ns)
        self._record("clog", 0, {"from": source, "to": target, "for_ns": duration_ns})

    def heal(self) -> None:
        super().heal()
        self._record("heal", 0, {})


class TracedServer(Server):
    """Tells what happened to it and how it looks afterwards."""

    __slots__ = ("_cause",)

    cluster: TracedCluster
    _cause: tuple[str, dict[str, Any]]

    def boot(self) -> None:
        self._cause = ("boot", {})
        super().boot()
        self._tell()

    def crash(self) -> None:
        if self.up:
            super().crash()
            self._cause = ("crash", {})
            self._tell()

    def pause(self) -> None:
        super().pause()
        self._cause = ("pause", {})
        self._tell()

    def resume(self) -> None:
        super().resume()
        self._cause = ("resume", {})
        self._tell()

    def _tick(self, generation: int) -> None:
        self._cause = ("tick", {})
        super()._tick(generation)

    def receive(self, message: Message) -> None:
        number = self.cluster.network.arriving
        if not self.up or self.paused:
            self.cluster.record("lost", message.sender, {"to": self.id, "id": number})
            return
        self._cause = ("deliver", {"from": message.sender, "id": number})
        super().receive(message)

    def act(self, action: Callable[[Node], Any]) -> Any:
        self._cause = self.cluster.asked.pop("cause", ("ask", {}))
        return super().act(action)

    def _synced(self, effects: Effects, generation: int) -> None:
        self._cause = ("write", {})
        super()._synced(effects, generation)

    def pump(self) -> None:
        self._tell()
        super().pump()
        if self.cluster.trace.changed(self.id, visible(self)):
            self._cause = ("apply", {})
            self._tell()

    def _tell(self) -> None:
        kind, detail = self._cause
        self._cause = ("change", {})
        self.cluster.record(kind, self.id, detail, visible(self))


class TracedCluster(Cluster):
    """A Cluster with a `trace`."""

    network: TracedNetwork

    def __init__(self, rng: Rng, settings: Settings | None = None, **meta: Any) -> None:
        self.trace = Trace(meta)
        self.asked: dict[str, tuple[str, dict[str, Any]]] = {}
        super().__init__(rng, settings)

    def record(
        self,
        kind: str,
        node: NodeId,
        detail: dict[str, Any],
        state: dict[str, Any] | None = None,
    ) -> None:
        """Write one event down."""
        self.trace.record(self.loop.now, kind, node, detail, state)

    def note(self, text: str) -> None:
        """A sentence for whoever looks at the trace."""
        self.record("note", 0, {"text": text})

    def make_network(self) -> TracedNetwork:
        return TracedNetwork(
            self.loop, self.rng, self._deliver, self.settings.link, record=self.record
        )

    def make_server(self, server_id: NodeId) -> Server:
        return TracedServer(self, server_id)

    def propose(self, server_id: NodeId, key: str, value: Any, done: Any = None) -> bool:
        self.asked["cause"] = ("propose", {"key": key, "value": value})
        try:
            return super().propose(server_id, key, value, done)
        finally:
            self.asked.clear()

    def read(self, server_id: NodeId, done: Any = None) -> bool:
        self.asked["cause"] = ("read", {})
        try:
            return super().read(server_id, done)
        finally:
            self.asked.clear()
