"""A real host for one test: the engine over the real core, its images from one shared store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.base.paths import LabPaths
from labkit.host.engine.context import Ports
from labkit.host.engine.engine import Engine
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore
from labkit.host.isolation.probe import probe
from labkit.host.isolation.runtime import Runtime

__all__ = ["Lab", "open_lab", "unframed"]


def unframed(data: bytes) -> tuple[bytes, bytes]:
    """Docker's frames as (stdout, stderr)."""
    parts = {1: bytearray(), 2: bytearray()}
    while data:
        size = int.from_bytes(data[4:8], "big")
        parts[data[0]] += data[8 : 8 + size]
        data = data[8 + size :]
    return bytes(parts[1]), bytes(parts[2])


@dataclass
class Lab:
    paths: LabPaths
    engine: Engine
    runtime: Runtime
    images: ImageStore

    async def run(self, *argv: str, name: str | None = None, **body: Any) -> tuple[int, str, str]:
        """`docker run`: exit code, stdout, stderr."""
        body = {"Image": "busybox", "Cmd": list(argv), **body}
        found = await self.engine.container_create(body, name=name)
        session = await self.engine.container_attach(found["Id"], stdout=True, stderr=True)
        waiter = await self.engine.container_wait(found["Id"], condition="next-exit")
        try:
            await self.engine.container_start(found["Id"])
            out, err = unframed(await _all(session.reader))
        finally:
            await session.close()
        return (await waiter)["StatusCode"], out.decode(), err.decode()

    async def start(self, *argv: str, name: str, **body: Any) -> str:
        """`docker run -d`."""
        body = {"Image": "busybox", "Cmd": list(argv), **body}
        found = await self.engine.container_create(body, name=name)
        await self.engine.container_start(found["Id"])
        return str(found["Id"])

    async def exec(self, name: str, *argv: str, **body: Any) -> tuple[int, str, str]:
        """`docker exec`."""
        body = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True, **body}
        created = await self.engine.exec_create(name, body)
        session = await self.engine.exec_start(created["Id"], {})
        assert session is not None
        out, err = unframed(await _all(session.reader))
        await session.close()
        async with asyncio.timeout(10):
            while (found := await self.engine.exec_inspect(created["Id"]))["Running"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return found["ExitCode"], out.decode(), err.decode()

    async def logs(self, name: str, **options: Any) -> str:
        stream = await self.engine.container_logs(name, stdout=True, stderr=True, **options)
        return unframed(b"".join([piece async for piece in stream]))[0].decode()

    async def remove_all(self) -> None:
        for container in tuple(self.engine.context.containers.values()):
            await self.engine.container_remove(container.id, force=True, volumes=True)

    async def close(self) -> None:
        await self.engine.close()
        self.runtime.close()
        self.images.close()


async def _all(reader: Any) -> bytes:
    found = bytearray()
    while piece := await reader.read(65536):
        found += piece
    return bytes(found)


async def open_lab(paths: LabPaths, shared: Path) -> Lab:
    """Open the host in `paths`, as the daemon would; images come from the store in `shared`."""
    found = probe()
    images = ImageStore(paths.host_data(), shared=[shared])
    runtime = Runtime(host=None, instance=paths.instance, probe=found)
    snapshots = Snapshotter(images, overlay=found.overlay)
    engine = await Engine.open(paths, Ports(runtime, images, snapshots, None, found))
    return Lab(paths, engine, runtime, images)
