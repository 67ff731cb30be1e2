"""A real host with networks for one test: engine, core, and a lab host of its own."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.base.paths import LabPaths
from labkit.host.engine import networking_connect
from labkit.host.engine.context import Ports
from labkit.host.engine.engine import Engine
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore
from labkit.host.isolation.anchor import find_anchor, start_anchor
from labkit.host.isolation.probe import probe
from labkit.host.isolation.runtime import Runtime
from labkit.host.isolation.spec import HostNamespaces
from labkit.host.network.netlink import Link

__all__ = ["NetworkLab", "open_network_lab"]


def unframed(data: bytes) -> str:
    """Docker's frames as one text."""
    parts = bytearray()
    while data:
        size = int.from_bytes(data[4:8], "big")
        parts += data[8 : 8 + size]
        data = data[8 + size :]
    return parts.decode()


@dataclass
class NetworkLab:
    paths: LabPaths
    engine: Engine
    runtime: Runtime
    host: HostNamespaces
    images: ImageStore

    @property
    def networks(self) -> Any:
        return self.engine.context.networks

    async def start(self, name: str, *argv: str, network: str = "bridge", **body: Any) -> str:
        """`docker run -d --network NETWORK`; sleeps when no command is given."""
        host = {"NetworkMode": network, **body.pop("HostConfig", {})}
        body = {
            "Image": "busybox",
            "Cmd": list(argv) or ["sleep", "1000"],
            "StopSignal": "SIGKILL",
            "HostConfig": host,
            **body,
        }
        found = await self.engine.container_create(body, name=name)
        await self.engine.container_start(found["Id"])
        return str(found["Id"])

    async def network(self, name: str, **body: Any) -> str:
        """`docker network create`."""
        return str((await self.networks.create({"Name": name, **body}))["Id"])

    async def connect(self, network: str, container: str, **settings: Any) -> None:
        await networking_connect.connect(
            self.engine.context, network, {"Container": container, "EndpointConfig": settings}
        )

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        await networking_connect.disconnect(
            self.engine.context, network, {"Container": container, "Force": force}
        )

    async def address(self, container: str, network: str = "bridge") -> str:
        shown = await self.engine.container_inspect(container)
        return str(shown["NetworkSettings"]["Networks"][network]["IPAddress"])

    async def exec(self, container: str, *argv: str) -> tuple[int, str]:
        """`docker exec`: exit code and output."""
        created = await self.engine.exec_create(
            container, {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
        )
        session = await self.engine.exec_start(created["Id"], {})
        assert session is not None
        data = bytearray()
        while piece := await session.reader.read(1 << 16):
            data += piece
        await session.close()
        async with asyncio.timeout(20):
            while (found := await self.engine.exec_inspect(created["Id"]))["Running"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return found["ExitCode"], unframed(bytes(data))

    async def reaches(self, container: str, target: str) -> bool:
        """Whether one ping is answered within a second."""
        code, _ = await self.exec(container, "ping", "-c", "1", "-W", "1", target)
        return code == 0

    async def reaches_soon(self, container: str, target: str) -> bool:
        """Whether one of ten pings is answered: a link that was just made may need a moment."""
        for _ in range(10):
            if await self.reaches(container, target):
                return True
        return False

    async def fetch(self, container: str, url: str) -> str:
        """What `wget -qO-` prints."""
        return (await self.exec(container, "wget", "-qO-", url))[1]

    async def host_links(self) -> dict[str, Link]:
        """The lab host's interfaces, once ended namespaces have taken theirs along."""
        async with asyncio.timeout(20):
            while True:
                links: dict[str, Link] = await self.networks.plumbing.link_names()
                if not any(name.startswith("veth") for name in links) or self.has_running():
                    return links
                await asyncio.sleep(0.02)

    def has_running(self) -> bool:
        return any(item.state.is_live for item in self.engine.context.containers.values())

    async def remove_all(self) -> None:
        for container in tuple(self.engine.context.containers.values()):
            await self.engine.container_remove(container.id, force=True, volumes=True)
        await self.networks.prune()

    async def close(self) -> None:
        await self.engine.close()
        self.runtime.close()
        self.runtime.cgroups.close()
        self.images.close()

    def close_namespaces(self) -> None:
        os.close(self.host.mnt)
        os.close(self.host.net)

    async def reopen(self, store: Path) -> None:
        """Let go of everything, and be the next daemon of the same lab."""
        await self.close()
        self.close_namespaces()
        found = await open_network_lab(self.paths, store)
        self.engine, self.runtime = found.engine, found.runtime
        self.host, self.images = found.host, found.images


async def open_network_lab(paths: LabPaths, store: Path) -> NetworkLab:
    """Open the default host of a lab."""
    found = probe(paths)
    data = paths.host_data()
    data.mkdir(parents=True, exist_ok=True)
    host = find_anchor(paths) or start_anchor(paths, probe=found)
    images = ImageStore(data, shared=[store])
    runtime = Runtime(host=host, instance=paths.instance, probe=found)
    ports = Ports(
        runtime=runtime,
        images=images,
        snapshots=Snapshotter(images, overlay=found.overlay),
        host=host,
        probe=found,
    )
    engine = await Engine.open(paths, ports)
    return NetworkLab(paths, engine, runtime, host, images)
