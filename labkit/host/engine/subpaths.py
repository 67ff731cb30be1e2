"""`--mount type=volume,volume-subpath=…`: one folder of a volume, and no other.

Another container may hold the same volume and swap the folder for a link while this one starts
(CVE-2023-36109's neighbours; Docker's daemon/volume/safepath). The core opens the source by its
path, so the folder is opened beneath the volume first, and what the core has mounted is compared
with it while the new process is still held.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter
from labkit.host.engine.archivepaths import evaluated
from labkit.host.engine.container import MountRecord
from labkit.host.engine.containerfs import root_of_process
from labkit.host.engine.ports import ShimPort
from labkit.host.image.beneath import open_in_root

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["Expected", "expected_subpaths", "subpath_source", "verify_subpaths"]

Expected = Mapping[str, tuple[int, int]]
"""For each target with a subpath: device and inode of what must be mounted there."""


def _refused(context: Context, mount: MountRecord, reason: str) -> InvalidParameter:
    return InvalidParameter(
        f"cannot access path {context.shown(mount.source)}/{mount.subpath}: {reason}",
        hint="a subpath must exist in the volume before a container mounts it",
    )


def _identity(context: Context, mount: MountRecord) -> tuple[int, int]:
    flags = os.O_PATH | os.O_CLOEXEC
    try:
        volume = os.open(context.opened(mount.source), flags | os.O_DIRECTORY)
        try:
            folder = open_in_root(volume, mount.subpath, flags)
        finally:
            os.close(volume)
    except OSError as error:
        raise _refused(context, mount, error.strerror or "it cannot be opened") from None
    found = os.fstat(folder)
    os.close(folder)
    return found.st_dev, found.st_ino


def subpath_source(context: Context, mount: MountRecord) -> str:
    """The path to mount, with the volume's own links followed inside the volume."""
    volume = os.open(context.opened(mount.source), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mount.source + evaluated(volume, mount.subpath)
    finally:
        os.close(volume)


async def expected_subpaths(context: Context, mounts: Iterable[MountRecord]) -> Expected:
    """What must be found at each target with a subpath; InvalidParameter when it is missing."""
    wanted = [mount for mount in mounts if mount.subpath]
    if not wanted:
        return {}
    return await asyncio.to_thread(
        lambda: {mount.target: _identity(context, mount) for mount in wanted}
    )


def verify_subpaths(shim: ShimPort, expected: Expected) -> None:
    """Compare with what a held process has mounted; InvalidParameter when it was swapped."""
    if not expected:
        return
    root = root_of_process(shim)
    try:
        for target, identity in expected.items():
            folder = open_in_root(root, target, os.O_PATH, cross_mounts=True)
            found = os.fstat(folder)
            os.close(folder)
            if (found.st_dev, found.st_ino) != identity:
                raise InvalidParameter(
                    f"cannot mount a subpath at {target}: it was replaced while the container "
                    "started"
                )
    finally:
        os.close(root)
