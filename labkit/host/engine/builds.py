"""Builds on this host: `POST /build`, its prune, and the real RUN.

A RUN's container follows the engine's own rules for users, mounts and limits. It has no record
in the engine: it lives for one step, is in no list, and a daemon that starts after a crash
discards its folder, its layer and its control group as it does with every half-made container.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from labkit.base.ids import short_id
from labkit.host.engine import hostfiles, networking, specs, validate
from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.container import Container, Definition, MountRecord
from labkit.host.engine.hostconfig import HostConfig, NetworkingConfig
from labkit.host.engine.namespaces import joined_namespaces
from labkit.host.engine.wire import read
from labkit.host.image.builder.building import build
from labkit.host.image.builder.cachemounts import CacheMounts
from labkit.host.image.builder.ports import BuildOptions, Output, RunRequest
from labkit.host.image.builder.work import BuildPorts, download
from labkit.host.image.tarread import ByteSource
from labkit.host.isolation.spec import ContainerSpec, IoSpec

if TYPE_CHECKING:
    from labkit.host.engine.context import Context
    from labkit.host.engine.filters import Filters
    from labkit.host.engine.ports import ShimPort
    from labkit.host.image.snapshots import Snapshotter

__all__ = ["ContainerRunner", "build_cache", "build_image", "build_ports", "prune_builds"]

_HEADER = 8
_CHUNK = 1 << 16
_known: WeakKeyDictionary[Context, BuildPorts] = WeakKeyDictionary()


def build_ports(context: Context) -> BuildPorts:
    """What builds on this host act through; made once, because cache mounts are shared."""
    if context not in _known:
        _known[context] = _ports(context)
    return _known[context]


async def build_image(
    context: Context, options: BuildOptions, archive: ByteSource
) -> AsyncGenerator[dict[str, Any], None]:
    """`POST /build` on this host: the lines to send, then the events that go with the names.

    `archive` is read in a thread. See building.build for what raises and what is a line.
    """
    ports = build_ports(context)
    has_failed = False
    async with contextlib.aclosing(build(ports, options, archive)) as lines:
        async for line in lines:
            has_failed = has_failed or "errorDetail" in line
            yield line
    if has_failed:
        return
    for tag in options.tags:
        image = await asyncio.to_thread(ports.store.get, tag)
        await context.emit("image", "tag", image.id, {**image.labels, "name": tag})


async def prune_builds(
    context: Context, filters: Filters | None = None, *, keep_bytes: int = 0
) -> dict[str, Any]:
    """`POST /build/prune`: removes cache mounts. Cached steps are images, and pruned as such."""
    caches = build_ports(context).caches
    found = await asyncio.to_thread(lambda: caches.prune(filters, keep_bytes=keep_bytes))
    await context.emit("builder", "prune", "", {"reclaimed": str(found["SpaceReclaimed"])})
    return found


async def build_cache(context: Context) -> list[dict[str, Any]]:
    """The BuildCache part of `GET /system/df`."""
    return await asyncio.to_thread(build_ports(context).caches.records)


def _ports(context: Context) -> BuildPorts:
    from labkit.host.image.pull import pull

    store = context.ports.images
    snapshots = context.ports.snapshots
    return BuildPorts(
        store=store,
        snapshots=cast("Snapshotter", snapshots),  # the engine knows it by a narrower port
        runner=ContainerRunner(context),
        pull=context.ports.pull or pull,
        fetch=download,
        caches=CacheMounts(store),
    )


class ContainerRunner:
    """Runs one command per container, through the host's Runtime."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, request: RunRequest, output: Output) -> int:
        """See ports.Runner."""
        context = self._context
        definition = self._definition(request)
        folder = context.folder(request.id)
        shim_folder = folder / "shim"
        try:
            await asyncio.to_thread(_make_folder, folder)
            await asyncio.to_thread(
                hostfiles.write_host_files, folder, definition.config, definition.host
            )
            container = Container(definition, f"build-{short_id(request.id)}")
            endpoints = networking.endpoints_for(context, definition)
            networking.check_endpoints(context, endpoints)
            context.networks.by_container[request.id] = endpoints
            with joined_namespaces(context, definition) as namespaces:
                spec = await specs.container_spec(
                    context, definition, request.root, namespaces, shim_folder
                )
                return await self._process(container, spec, shim_folder, output)
        finally:
            networking.forget(context, request.id)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _process(
        self, container: Container, spec: ContainerSpec, folder: Path, output: Output
    ) -> int:
        context = self._context
        shim = await context.ports.runtime.start(spec, IoSpec(), folder, hold=True)
        try:
            if networking.needs_joining(context, container):
                await networking.join(context, container, shim)
            reader, writer = await shim.attach(stdin=False, stdout=True, stderr=True)
            try:
                await shim.release()
                await _relay(reader, output)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            return (await shim.wait()).code
        finally:
            # Kills what still runs: a cancelled build leaves no process and no address in use.
            await asyncio.shield(asyncio.ensure_future(_ended(context, container, shim)))

    def _definition(self, request: RunRequest) -> Definition:
        network = "" if request.network in ("", "default") else request.network
        body = {**request.host_config, "NetworkMode": network}
        config = ContainerConfig(
            hostname=short_id(request.id),
            user=str(request.config.get("User") or ""),
            env=request.env,
            cmd=request.args,
            image=request.image.id,
            working_dir=str(request.config.get("WorkingDir") or ""),
        )
        host = validate.with_defaults(read(HostConfig, body, name="HostConfig"))
        mounts = tuple(
            MountRecord("tmpfs", "", mount.target, options=f"exec,{mount.options}".rstrip(","))
            if mount.source is None
            else MountRecord("bind", str(mount.source), mount.target, not mount.readonly)
            for mount in request.mounts
        )
        return Definition(
            id=request.id,
            created_ns=time.time_ns(),
            image_id=request.image.id,
            image=request.image.id,
            path=request.args[0],
            args=request.args[1:],
            config=config,
            host=host,
            networking=NetworkingConfig(),
            mounts=mounts,
        )


async def _ended(context: Context, container: Container, shim: ShimPort) -> None:
    try:
        await networking.leave(context, container)
    finally:
        await shim.cleanup()


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o710)


async def _relay(reader: asyncio.StreamReader, output: Output) -> None:
    """Docker's frames to `output`, until the process and its children have closed their ends."""
    while True:
        try:
            header = await reader.readexactly(_HEADER)
        except asyncio.IncompleteReadError:
            return
        left = int.from_bytes(header[4:], "big")
        while left:
            data = await reader.read(min(left, _CHUNK))
            if not data:
                return
            left -= len(data)
            await output(data)
