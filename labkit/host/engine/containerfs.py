"""A container's file system as its own processes see it: overlay, volumes and binds together.

`docker cp` must look where the container looks, also while the container swaps folders for links
as fast as it can (CVE-2018-15664), and must never run or load anything of the container's
(CVE-2019-14271). So nothing here spells a path of the machine or enters the container: the root is
one descriptor, and every path is opened from it with openat2(2), RESOLVE_IN_ROOT. Mounts stay the
container's, so what is read-only there is read-only here.

The root of a running container is /proc/PID/root of its first process. For one that does not run,
a process is built exactly as for a start and held before its exec: it never runs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict, LabkitError, SystemFailure
from labkit.base.ids import new_id
from labkit.host.engine import hostfiles
from labkit.host.engine.container import Container
from labkit.host.engine.mounts import core_mounts, prepare_sources
from labkit.host.engine.ports import ShimPort
from labkit.host.isolation.spec import (
    ContainerSpec,
    IoSpec,
    NamespaceChoice,
    NamespaceKind,
    ProcessSpec,
    RootSpec,
)

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["opened_root", "root_of_process"]

_KINDS: tuple[NamespaceKind, ...] = ("net", "ipc", "uts", "cgroup")


@asynccontextmanager
async def opened_root(context: Context, container: Container) -> AsyncIterator[int]:
    """A descriptor (O_PATH) of the container's `/`, with everything that is mounted in it.

    A container that does not run cannot be started meanwhile: two overlays over one upper folder
    are undefined (Documentation/filesystems/overlayfs.rst). Raises Conflict for one that is going.
    """
    if container.removing or container.state.status in ("removing", "dead"):
        raise Conflict(f"container {container.id} is marked for removal and cannot be read")
    shim = container.shim
    if shim is not None and container.state.is_live:
        root = root_of_process(shim)
        try:
            yield root
        finally:
            os.close(root)
        return
    async with container.lock:
        if context.containers.get(container.id) is not container:
            raise Conflict(f"container {container.id} is marked for removal and cannot be read")
        if container.shim is not None and container.state.is_live:  # it was started meanwhile
            root = root_of_process(container.shim)
            try:
                yield root
            finally:
                os.close(root)
            return
        async with _held(context, container) as held:
            root = root_of_process(held)
            try:
                yield root
            finally:
                os.close(root)


def root_of_process(shim: ShimPort) -> int:
    """A descriptor (O_PATH) of `/` as a container's first process sees it."""
    pid = shim.init_pid
    try:
        # The folder in /proc names this process and no later one of the same number.
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if pid not in shim.pids():
                raise ProcessLookupError
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            return os.open("root", flags, dir_fd=process)
        finally:
            os.close(process)
    except (FileNotFoundError, ProcessLookupError):
        raise Conflict("the container has just ended: try again") from None
    except OSError as error:
        raise SystemFailure(f"cannot open the container's files: {error.strerror}") from error


@asynccontextmanager
async def _held(context: Context, container: Container) -> AsyncIterator[ShimPort]:
    """A process that has the container's root and mounts, and never gets to its exec."""
    from labkit.host.engine.execs import FOLDER_PREFIX
    from labkit.host.engine.starting import root_of

    definition = container.definition
    root = await root_of(context, container)
    own = [mount for mount in definition.mounts if mount.kind != "tmpfs"]
    await prepare_sources(context, own)
    identifier = new_id()
    # Named like an exec's: should the engine die now, the next one ends what it finds there.
    folder = context.folder(container.id) / f"{FOLDER_PREFIX}{identifier[:16]}"
    mounts = core_mounts(context, own)
    files = hostfiles.file_mounts(context.folder(container.id), {mount.target for mount in mounts})
    readonly = root.readonly or container.host.readonly_rootfs
    spec = ContainerSpec(
        id=identifier,
        process=ProcessSpec(args=("/",)),
        root=RootSpec(root.lowers, root.upper, root.work, root.path, readonly),
        mounts=(*files, *mounts),
        namespaces={
            "mnt": NamespaceChoice.NEW,
            "pid": NamespaceChoice.NEW,
            "user": NamespaceChoice.HOST,
            **dict.fromkeys(_KINDS, NamespaceChoice.HOST),
        },
    )
    await asyncio.to_thread(folder.mkdir, 0o700)
    try:
        shim = await context.ports.runtime.start(spec, IoSpec(), folder, hold=True)
        try:
            yield shim
        finally:
            with contextlib.suppress(LabkitError, OSError):
                await shim.signal(9)
            await shim.wait()
            await shim.cleanup()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
