"""Everything beyond the default host: simulated nodes, the swarm on them, and chaos.

Imported and made on first use, so that a lab without a cluster pays nothing for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError
from labkit.base.paths import LabPaths
from labkit.cluster.store.commands import Put
from labkit.daemon.chaos.actions import Chaos
from labkit.daemon.nodes.node import Node
from labkit.daemon.nodes.registry import Nodes
from labkit.daemon.swarm.cluster import SwarmCluster
from labkit.daemon.swarm.weather import Weather
from labkit.world.real.places import TcpPlace, UnixPlace
from labkit.world.real.transport import Place

if TYPE_CHECKING:
    import socket

    from labkit.daemon.ground import Ground

__all__ = ["Fleet"]

_LOG = logging.getLogger("labkit.fleet")
_MANAGER_PORT = 2377
"""Where swarm's managers listen."""

Json = dict[str, Any]


class Fleet:
    """The nodes, the swarm and the chaos of one lab."""

    def __init__(self, paths: LabPaths, ground: Ground) -> None:
        self._paths = paths
        self._folder = paths.home / "swarm"
        self._turn = asyncio.Lock()
        self.weather = Weather(random.Random())  # noqa: S311 - weather, no secrets
        self.nodes = Nodes(paths, ground.probe, ground.host)
        self.swarm: SwarmCluster | None = None
        self.chaos = Chaos(self, paths.home / "chaos.jsonl")

    # -- life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take up what an earlier daemon had. What does not come up is logged and shown."""
        await self.nodes.open()
        record = SwarmCluster.found_in(self._folder)
        if record is not None:
            self.swarm = SwarmCluster(self._folder, record, self._place_of, self.weather)
            await self.swarm.open()

    async def close(self) -> None:
        """Let go; nodes run on."""
        await self.chaos.close()
        if self.swarm is not None:
            await self.swarm.close()
        await self.nodes.close()

    async def take_down(self) -> None:
        """The whole lab goes down: managers and nodes stop."""
        await self.chaos.close()
        if self.swarm is not None:
            await self.swarm.close()
        await self.nodes.take_down()

    # -- the swarm ---------------------------------------------------------------------------------

    def need_swarm(self) -> SwarmCluster:
        """The swarm. Raises Conflict when none is up."""
        if self.swarm is None:
            raise Conflict("no swarm is up in this lab", hint="labkit swarm up --managers 3")
        return self.swarm

    async def swarm_up(
        self, managers: int, workers: int, *, clock: str, hollow: bool
    ) -> SwarmCluster:
        """Make nodes manager-N and worker-N and a swarm of them. Raises Conflict if one is up."""
        async with self._turn:
            if self.swarm is not None:
                raise Conflict("a swarm is up already", hint="labkit swarm status, … down")
            if managers < 1 or workers < 0 or managers + workers > 1000:
                raise InvalidParameter(f"{managers} managers and {workers} workers make no swarm")
            names = (
                [f"manager-{number}" for number in range(1, managers + 1)],
                [f"worker-{number}" for number in range(1, workers + 1)],
            )
            made = await self.nodes.add([*names[0], *names[1]], hollow=hollow)
            try:
                self.swarm = await SwarmCluster.create(
                    self._folder, names, clock, self._place_of, self.weather
                )
            except BaseException:
                await self.nodes.remove([node.name for node in made])
                raise
            await self._enroll(self.swarm)
            return self.swarm

    async def _enroll(self, swarm: SwarmCluster) -> None:
        """Write every node into the store, which shows that the swarm can decide."""
        for name, role in [
            *((name, "manager") for name in swarm.names.values()),
            *((name, "worker") for name in swarm.record["workers"]),
        ]:
            await swarm.write(Put(f"/nodes/{name}", role), timeout_s=60 * swarm.settings.tick_s + 5)

    async def swarm_down(self) -> None:
        """End the swarm and remove its nodes."""
        async with self._turn:
            swarm = self.need_swarm()
            self.swarm = None
            await self.chaos.close()
            await swarm.remove()
            names = [*swarm.names.values(), *swarm.record["workers"]]
            await self.nodes.remove([name for name in names if name in self.nodes.all])
            self.weather.heal()
            await self.apply_weather([])

    def _place_of(self, source: str, target: str) -> Place:
        """On real nodes a manager listens at port 2377 of its own host, as swarm's do."""
        real = [
            name in self.nodes.all and not self.nodes.all[name].record.hollow
            for name in (source, target)
        ]
        if not all(real):
            folder = self._paths.run / "nodes" / target
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return UnixPlace(folder / "swarm.sock")
        return TcpPlace(
            self.nodes.all[target].address,
            _MANAGER_PORT,
            lambda: self._socket_of(target),
            lambda: self._socket_of(source),
        )

    def _socket_of(self, name: str) -> socket.socket:
        import socket

        from labkit.host.network.namespaces import NamespaceWorker

        node = self.nodes.all.get(name)
        namespaces = node.namespaces if node is not None else None
        if namespaces is None:
            raise OSError(f"node {name} does not run")
        return NamespaceWorker.run_nowait(
            namespaces.net, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        )

    # -- nodes with the managers on them -----------------------------------------------------------

    def names(self) -> list[str]:
        """Every node's name."""
        return list(self.nodes.all)

    def conditions(self) -> tuple[list[str], list[str], list[str]]:
        """Who is up, who is down, who is paused: those with a manager, or everybody without one."""
        swarm = self.swarm
        managers = set(swarm.names.values()) if swarm is not None else set(self.nodes.all)
        found: dict[str, list[str]] = {"running": [], "down": [], "paused": []}
        for name in sorted(managers & set(self.nodes.all)):
            status = self.nodes.all[name].status
            found[status if status in found else "down"].append(name)
        return found["running"], found["down"], found["paused"]

    def _member(self, name: str) -> Any:
        if self.swarm is None:
            return None
        return next((m for m in self.swarm.members.values() if m.name == name), None)

    async def change_node(self, name: str, action: str) -> Node:
        """start, stop, kill, pause or unpause a node and the manager on it."""
        node = self.nodes.get(name)
        member = self._member(name)
        if member is not None and action in ("stop", "kill"):
            member.crash()
        elif member is not None and action == "pause":
            member.pause()
        node = await self.nodes.change(name, action)
        if member is not None and action == "unpause":
            member.resume()
        elif member is not None and action == "start" and not member.up:
            assert self.swarm is not None
            await self.swarm.start_member(member)
        if action == "start":
            await self.apply_weather([])
        return node

    async def kill(self, name: str) -> None:
        """Pull a node's plug."""
        node = self.nodes.get(name)
        if not node.alive:
            raise Conflict(f"node {name} is down already", hint=f"labkit chaos restart {name}")
        await self.change_node(name, "kill")

    async def restart(self, name: str) -> None:
        """Bring a node up again; one that runs is killed first."""
        if self.nodes.get(name).alive:
            await self.change_node(name, "kill")
        await self.change_node(name, "start")

    async def pause(self, name: str) -> None:
        """Let a node stand still."""
        if self.nodes.get(name).status == "paused":
            raise Conflict(f"node {name} is paused already", hint=f"labkit chaos resume {name}")
        await self.change_node(name, "pause")

    async def resume(self, name: str) -> None:
        """Let a paused node go on."""
        if self.nodes.get(name).status != "paused":
            raise Conflict(f"node {name} is not paused")
        await self.change_node(name, "unpause")

    async def remove_nodes(self, names: Sequence[str]) -> None:
        """Remove nodes that belong to no swarm."""
        swarm = self.swarm
        taken = {*swarm.names.values(), *swarm.record["workers"]} if swarm is not None else set()
        for name in names:
            self.nodes.get(name)
            if name in taken:
                raise Conflict(f"node {name} belongs to the swarm", hint="labkit swarm down")
        await self.nodes.remove(names)
        for name in names:
            self.weather.forget(name)

    # -- packets -----------------------------------------------------------------------------------

    async def apply_weather(self, notes: list[str]) -> None:
        """Let the underlay lose what the weather says. What packets cannot suffer here is noted."""
        underlay = self.nodes.underlay
        if underlay is None:
            return
        from labkit.host.network.underlay import Damage

        bad = self.weather.bad()
        for node in self.nodes.all.values():
            namespaces = node.namespaces
            if namespaces is None:
                continue
            losses: dict[ipaddress.IPv4Address, Damage] = {}
            delays: dict[ipaddress.IPv4Address, float] = {}
            for wire in bad:
                if wire["to"] == node.name and (wire["cut"] or wire["loss"]):
                    for address in self._underlay_address(wire["from"]):
                        losses[address] = Damage(wire["cut"], wire["loss"])
                if wire["from"] == node.name and wire["delay_ms"]:
                    for address in self._underlay_address(wire["to"]):
                        delays[address] = wire["delay_ms"]
            for work in (
                underlay.damage(namespaces.net, losses),
                underlay.delay(namespaces.net, delays),
            ):
                try:
                    await work
                except LabkitError as error:
                    notes.append(f"{node.name}: {error.message}")

    def _underlay_address(self, name: str) -> list[ipaddress.IPv4Address]:
        """The address of a real node; none of a hollow one."""
        node = self.nodes.all.get(name)
        if node is None or node.record.hollow:
            return []
        return [ipaddress.IPv4Address(node.address)]
