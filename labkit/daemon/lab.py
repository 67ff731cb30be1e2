"""One lab, open: its host, its engine, its boxes, and what is said about all of them."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.base.paths import LabPaths
from labkit.daemon.boxes import BoxRegistry
from labkit.daemon.ground import Ground
from labkit.daemon.hosts import Host, open_host, remove_folder
from labkit.daemon.identity import ENGINE_VERSION
from labkit.daemon.keeper import AnchorKeeper
from labkit.host.isolation.cgroups import CgroupDriver

if TYPE_CHECKING:
    from labkit.daemon.fleet import Fleet
    from labkit.host.isolation.spec import HostNamespaces

__all__ = ["Lab"]

_LOG = logging.getLogger("labkit.daemon")
Json = dict[str, Any]


class Lab:
    """Everything that the lab API serves. Made by `open`."""

    def __init__(
        self,
        paths: LabPaths,
        ground: Ground,
        opened: Host,
        boxes: BoxRegistry,
        stop: Callable[[], None],
    ) -> None:
        self.paths = paths
        self.ground = ground
        self.opened = opened
        self.engine = opened.engine
        self.images = opened.images
        self.boxes = boxes
        self.started_at = time.time()
        self._stop = stop
        self._ending: asyncio.Task[int] | None = None
        self._fleet: Fleet | None = None
        self._fleet_turn = asyncio.Lock()
        self._keeper: AnchorKeeper | None = None

    @property
    def mode(self) -> str:
        """rootful, rootless or hollow."""
        return self.ground.mode

    @property
    def node(self) -> str:
        """The lab host's name."""
        return self.ground.node

    @property
    def host(self) -> HostNamespaces | None:
        """The lab host's namespaces; None in hollow mode."""
        return self.ground.host

    @classmethod
    async def open(cls, paths: LabPaths, ground: Ground, *, stop: Callable[[], None]) -> Lab:
        """Open the images and the engine, and clear away what dead boxes left.

        Containers that an earlier daemon started are taken up again. `stop` ends the process.
        """
        # Boxes of an earlier daemon first: what they hold mounted lies in the host's folders.
        groups = CgroupDriver(paths.instance, ground.probe)
        data = paths.host_data(ground.node)
        data.mkdir(mode=0o711, parents=True, exist_ok=True)
        boxes = BoxRegistry(ground.host, groups, data, data.parent / "boxes.json")
        for name in await asyncio.to_thread(boxes.sweep):
            _LOG.info("cleared away box %s of an earlier daemon", name)
        host = await open_host(paths, ground.probe, ground.host, node=ground.node, groups=groups)
        lab = cls(paths, ground, host, boxes, stop)
        if ground.host is not None:
            lab._keeper = AnchorKeeper(paths, ground.node, ground.host)
        if (paths.home / "nodes.json").exists() or (paths.home / "swarm").exists():
            try:
                await lab.fleet()
            except LabkitError as error:
                # The default host is worth having without them; whoever asks for them is told.
                _LOG.error("the nodes of this lab do not come up: %s", error)
        return lab

    async def fleet(self) -> Fleet:
        """The simulated nodes and the swarm; made, and what was there taken up, on first use."""
        async with self._fleet_turn:
            if self._fleet is None:
                from labkit.daemon.fleet import Fleet

                fleet = Fleet(self.paths, self.ground)
                try:
                    await fleet.open()
                except BaseException:
                    await fleet.close()
                    raise
                self._fleet = fleet
            return self._fleet

    @property
    def nodes(self) -> list[Json]:
        """The hosts with an engine, as GET /v1/nodes has them: the default one first."""
        if self._fleet is not None:
            return [node for node in self._fleet.nodes.to_json() if node["docker_socket"]]
        first = {"name": self.node, "mode": self.mode, "status": "running"}
        return [{**first, "docker_socket": str(self.paths.docker_socket)}]

    async def close(self) -> None:
        """Let go; containers keep running. Boxes end, as they would with the process."""
        await self.boxes.close()
        if self._ending is None:
            if self._fleet is not None:
                await self._fleet.close()
            await self._let_go()

    async def _let_go(self) -> None:
        if self._keeper is not None:
            await self._keeper.close()
        await self.opened.close()

    # -- the end -------------------------------------------------------------------------------

    async def shut_down(self, *, stop_containers: bool, remove_data: bool) -> int:
        """End the daemon, and with `stop_containers` everything that runs in the lab.

        Returns how many containers were stopped. A second request waits for the first.
        """
        if not stop_containers:
            self._stop()
            return 0
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._take_down(remove_data=remove_data))
        return await asyncio.shield(self._ending)

    async def _take_down(self, *, remove_data: bool) -> int:
        from labkit.host.isolation import anchor

        running = len(await self.engine.container_list())
        await self.boxes.close()
        if self._fleet is not None:
            await self._fleet.take_down()
        await self.engine.stop_all()
        await self.engine.context.networks.way_out.take_down()
        await self._let_go()
        await asyncio.to_thread(self.boxes.groups.clean)
        await asyncio.to_thread(self.boxes.groups.close)
        if self.host is not None:
            await asyncio.to_thread(anchor.stop_anchor, self.paths, self.node)
        if remove_data:
            await asyncio.to_thread(remove_folder, self.paths.home / "hosts")
            await asyncio.to_thread(_forget_fleet, self.paths)
        self._stop()
        return running

    # -- what is said about it -----------------------------------------------------------------

    async def status(self) -> Json:
        """The body of GET /v1/status."""
        from labkit.daemon.lab_report import image_source, leftovers, limits, warnings

        return {
            "pid": os.getpid(),
            "version": ENGINE_VERSION,
            "mode": self.mode,
            "home": str(self.paths.home),
            "run": str(self.paths.run),
            "docker_socket": str(self.paths.docker_socket),
            "lab_socket": str(self.paths.lab_socket),
            "started_at": self.started_at,
            "uptime_s": round(time.time() - self.started_at, 3),
            "nodes": self.nodes,
            "warnings": warnings(self.ground) + self._network_warnings(),
            "limits": limits(self.boxes.groups),
            "images": await image_source(),
            "leftovers": await leftovers(self),
        }

    def _network_warnings(self) -> list[str]:
        networks = self.engine.context.networks
        found = [networks.way_out.problem] if networks.way_out.problem else []
        if networks.way_out.outside is not None:
            found.append("the outside (8.8.8.8, google.com, example.com) is simulated here")
        if networks.plumbing is not None and networks.plumbing.rules_error:
            found.append(f"no nftables on the lab host: {networks.plumbing.rules_error}")
        return found

    async def doctor(self) -> list[Json]:
        """The body of GET /v1/doctor."""
        from labkit.daemon.lab_report import doctor

        return await doctor(self)

    def catalog(self) -> list[Json]:
        """The body of GET /v1/catalog."""
        from labkit.host.image.catalog import Catalog

        return [{"name": entry.name, "summary": entry.summary} for entry in Catalog().entries()]


def _forget_fleet(paths: LabPaths) -> None:
    """The nodes' data went with the hosts' folder; their records go as well."""
    shutil.rmtree(paths.home / "swarm", ignore_errors=True)
    for name in ("nodes.json", "chaos.jsonl"):
        (paths.home / name).unlink(missing_ok=True)
