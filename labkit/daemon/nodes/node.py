"""One simulated node: a host with namespaces, engine, data and Docker socket, or a mere entry."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import Conflict
from labkit.base.paths import LabPaths
from labkit.host.network.underlay import address_of

if TYPE_CHECKING:
    from labkit.daemon.hosts import Host
    from labkit.host.isolation.probe import Probe
    from labkit.host.isolation.spec import HostNamespaces
    from labkit.host.network.underlay import Underlay

__all__ = ["Node", "NodeRecord"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What is remembered of a node. `state` is what was asked for: running, stopped or paused."""

    name: str
    number: int
    hollow: bool
    platform: str
    state: str


class Node:
    """Call `start`, `stop`, `kill`, `pause`, `unpause`; a hollow one only changes its state."""

    def __init__(
        self, paths: LabPaths, record: NodeRecord, probe: Probe, underlay: Underlay | None
    ) -> None:
        self.record = record
        self.alive = False
        """Whether it runs now; a node that was killed should be running and is not."""
        self.host: Host | None = None
        self._paths = paths
        self._probe = probe
        self._underlay = underlay
        self._runner: web.AppRunner | None = None
        self._awake = asyncio.Event()
        self._awake.set()

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def address(self) -> str:
        """Its address on the underlay."""
        return str(address_of(self.record.number))

    @property
    def socket_path(self) -> Path:
        """Where its Docker socket is, if it has one."""
        return self._paths.run / "nodes" / self.name / "docker.sock"

    @property
    def namespaces(self) -> HostNamespaces | None:
        """Its namespaces while it runs; None for a hollow one."""
        return self.host.namespaces if self.host is not None else None

    @property
    def status(self) -> str:
        """running, paused, stopped, or dead: it should run and does not."""
        if self.record.state == "running" and not self.alive:
            return "dead"
        return self.record.state

    def to_json(self) -> Json:
        """For GET /v1/nodes."""
        record = self.record
        return {
            "name": record.name,
            "kind": "hollow" if record.hollow else "namespace",
            "mode": "hollow" if record.hollow else self._probe.mode,
            "status": self.status,
            "address": self.address,
            "platform": record.platform,
            "docker_socket": "" if record.hollow else str(self.socket_path),
            "anchor_pid": self.namespaces.anchor_pid if self.namespaces is not None else 0,
        }

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up: namespaces, cable, engine, socket. Raises LabkitError; it is down then."""
        if self.alive:
            return
        if not self.record.hollow:
            try:
                await self._start_host()
            except BaseException:
                await self._let_go()
                raise
        self._awake.set()
        self.alive = True

    async def _start_host(self) -> None:
        from labkit.daemon.docker_api import build_docker_app
        from labkit.daemon.hosts import open_host
        from labkit.daemon.sockets import listen_unix
        from labkit.host.isolation import anchor

        assert self._underlay is not None
        await asyncio.to_thread(_make_folder, self.socket_path.parent)
        # Without a probe: an ordinary user's daemon is root of its lab already, and all nodes
        # share that user namespace.
        namespaces = await asyncio.to_thread(
            anchor.start_anchor, self._paths, self.name, None, hostname=self.name
        )
        await self._underlay.open()
        await self._underlay.plug(self.record.number, namespaces.net)
        self.host = await open_host(self._paths, self._probe, namespaces, node=self.name)
        app = build_docker_app(self.host.engine)
        app.middlewares.append(self._wait_while_paused)
        listener = listen_unix(self.socket_path)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=0.5,
            tcp_keepalive=False,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    @web.middleware
    async def _wait_while_paused(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await self._awake.wait()
        response: web.StreamResponse = await handler(request)
        return response

    async def stop(self) -> None:
        """Shut down: containers with their grace, then the host."""
        if self.host is not None:
            await self.unpause()
            await self.host.engine.stop_all()
        await self._power_off()

    async def kill(self) -> None:
        """Pull the plug: every process of the node ends at once."""
        await self._power_off()

    async def _power_off(self) -> None:
        self.alive = False
        if self.record.hollow:
            return
        from labkit.host.isolation import anchor

        await self.unfreeze()
        groups = self.host.groups if self.host is not None else None
        # The shims first, so that no engine sees its containers die and restarts them.
        await self._let_go()
        await asyncio.to_thread(anchor.stop_anchor, self._paths, self.name)
        if groups is not None:
            await asyncio.to_thread(groups.clean)
            await asyncio.to_thread(groups.close)
        if self._underlay is not None:
            await self._underlay.unplug(self.record.number)

    async def let_go(self) -> None:
        """The daemon ends; the node and its containers go on."""
        await self._let_go()

    async def _let_go(self) -> None:
        self.alive = False
        with contextlib.suppress(OSError):
            self.socket_path.unlink()
        runner, self._runner = self._runner, None
        if runner is not None:
            self._awake.set()
            await runner.cleanup()
        host, self.host = self.host, None
        if host is not None:
            await host.close()
            if host.namespaces is not None:
                for descriptor in (host.namespaces.mnt, host.namespaces.net):
                    with contextlib.suppress(OSError):
                        os.close(descriptor)

    async def pause(self) -> None:
        """Stand still: its containers are frozen, its engine does not answer."""
        if not self.alive:
            raise Conflict(f"node {self.name} does not run", hint=f"labkit nodes start {self.name}")
        self._awake.clear()
        await asyncio.to_thread(self._freeze, frozen=True)

    async def unpause(self) -> None:
        """Go on."""
        await self.unfreeze()
        self._awake.set()

    async def unfreeze(self) -> None:
        """Let frozen containers run."""
        await asyncio.to_thread(self._freeze, frozen=False)

    def _freeze(self, *, frozen: bool) -> None:
        """Freeze every group of the node at once (cgroups(7): freezer.state, cgroup.freeze)."""
        for base in self.host.groups.bases if self.host is not None else ():
            for name, word in (
                ("cgroup.freeze", "1" if frozen else "0"),
                ("freezer.state", "FROZEN" if frozen else "THAWED"),
            ):
                with contextlib.suppress(OSError):
                    if (base / name).exists():
                        (base / name).write_text(word)

    def remove_files(self) -> None:
        """The node is gone for good: its data and its socket's folder as well."""
        from labkit.daemon.hosts import remove_folder

        remove_folder(self._paths.host_data(self.name).parent)
        shutil.rmtree(self.socket_path.parent, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
