"""What the user asked to have mounted: `-v`, `--mount`, `--tmpfs`, VOLUME, `--volumes-from`.

Resolved once, at create, into MountRecords; turned into the core's Mounts at every start.
Paths of binds are paths on the lab host (design.md 14).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, LabkitError, NotFound, SystemFailure
from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.container import Container, MountRecord
from labkit.host.engine.hostconfig import HostConfig, MountPoint
from labkit.host.engine.mountspecs import bind_record, check_mode, mount_record, tmpfs_record
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.isolation.spec import Mount

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = [
    "core_mounts",
    "fill_volumes",
    "host_path",
    "mounted",
    "prepare_sources",
    "released",
    "resolve_mounts",
]


def host_path(context: Context, path: str) -> str:
    """`path` of the lab host as this process can open it."""
    return context.opened(path)


async def resolve_mounts(
    context: Context, config: ContainerConfig, host: HostConfig
) -> tuple[MountRecord, ...]:
    """Every mount the container will have, volumes made where they are missing."""
    found: dict[str, MountRecord] = {}
    for reference in host.volumes_from or ():
        name, _, mode = reference.partition(":")
        words = check_mode(mode)
        try:
            other = context.find(name)
        except NotFound as error:
            # Not a 404, which the client would take for a missing image.
            raise InvalidParameter(error.message, hint=error.hint) from None
        for mount in other.definition.mounts:
            readable_only = "ro" in words or not mount.writable
            found[mount.target] = replace(mount, writable=not readable_only)
    own: set[str] = set()
    entries: list[tuple[MountRecord, MountPoint | None]] = [
        (bind_record(spec), None) for spec in host.binds or ()
    ]
    entries += [(mount_record(given, context.opened), given) for given in host.mounts or ()]
    entries += [(tmpfs_record(path, words), None) for path, words in (host.tmpfs or {}).items()]
    for entry, _ in entries:
        if entry.target in own:
            raise InvalidParameter(f"Duplicate mount point: {entry.target}")
        own.add(entry.target)
    for entry, given in entries:
        found[entry.target] = await _with_volume(context, entry, host, given)
    for target in config.volumes or ():
        if not target.startswith("/"):
            raise InvalidParameter(
                f"invalid volume specification: '{target}': invalid mount path: '{target}' mount "
                "path must be absolute"
            )
        clean = posixpath.normpath(target)
        if clean not in found:
            anonymous = MountRecord("volume", "", clean, True, anonymous=True)
            found[clean] = await _with_volume(context, anonymous, host, None)
    return tuple(found.values())


async def _with_volume(
    context: Context, entry: MountRecord, host: HostConfig, given: MountPoint | None
) -> MountRecord:
    """The record with its volume, which is made with what `--mount` says about it."""
    if entry.kind != "volume":
        return entry
    options = (given.volume_options if given else None) or {}
    driver = options.get("DriverConfig") or {}
    labels, words = options.get("Labels") or {}, driver.get("Options") or {}
    for found in (labels, words):
        if not all(isinstance(value, str) for value in found.values()):
            raise InvalidParameter("invalid JSON: volume labels and options must be strings")
    name = str(driver.get("Name") or "") or host.volume_driver
    volume = await context.volumes.ensure(entry.name, labels, words, driver=name)
    return replace(entry, source=context.volumes.source(volume.name), name=volume.name)


def fill_volumes(context: Context, mounts: Iterable[MountRecord], files: RootFiles) -> None:
    """Copy what the image has at a fresh volume's place into it; once, when the container is
    made. Blocking."""
    for mount in mounts:
        if mount.kind == "volume" and "nocopy" not in mount.options and not mount.subpath:
            context.volumes.fill(mount.name, mount.target, files)


async def prepare_sources(context: Context, mounts: Iterable[MountRecord]) -> None:
    """Before a start: make missing sources of `-v` binds, as Docker does, and have the volumes
    that are mounts mounted."""
    for mount in mounts:
        if mount.kind == "bind":
            await asyncio.to_thread(_make_source, host_path(context, mount.source), mount)
        elif mount.kind == "volume":
            await context.volumes.mount(mount.name)


def mounted(context: Context, container: Container) -> tuple[dict[str, Any], ...]:
    """The events of a start's volumes."""
    return tuple(
        context.events.make(
            "volume",
            "mount",
            mount.name,
            {
                "container": container.id,
                "destination": mount.target,
                "driver": "local",
                "propagation": mount.propagation,
                "read/write": str(mount.writable).lower(),
            },
        )
        for mount in container.definition.mounts
        if mount.kind == "volume"
    )


async def released(context: Context, container: Container) -> None:
    """After an end: say so, and let go of mounts that nobody else uses."""
    for mount in container.definition.mounts:
        if mount.kind == "volume" and mount.name:
            attributes = {"container": container.id, "driver": "local"}
            # What has ended has ended, whether or not the disk takes a record of it.
            with contextlib.suppress(LabkitError):
                await context.emit("volume", "unmount", mount.name, attributes)
                await context.volumes.unmount(mount.name)


def _make_source(opened: str, mount: MountRecord) -> None:
    if os.path.lexists(opened):
        return
    if mount.must_exist:
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
        )
    try:
        os.makedirs(opened, exist_ok=True)
    except OSError as error:
        raise SystemFailure(
            f"error while creating mount source path '{mount.source}': mkdir {mount.source}: "
            f"{error.strerror}"
        ) from error


def core_mounts(context: Context, mounts: Iterable[MountRecord]) -> list[Mount]:
    """The records as mounts of the core, outer targets before the ones below them."""
    ordered = sorted(mounts, key=lambda mount: (mount.target.count("/"), mount.target))
    return [_core_mount(context, mount) for mount in ordered]


def _core_mount(context: Context, mount: MountRecord) -> Mount:
    if mount.kind == "tmpfs":
        words = [word for word in mount.options.split(",") if word]
        data = [word for word in words if "=" in word]
        return Mount(
            "tmpfs",
            mount.target,
            data=",".join(data),
            readonly=not mount.writable or "ro" in words,
            nosuid="suid" not in words,
            nodev="dev" not in words,
            noexec="exec" not in words,
        )
    creates: Any = "dir"
    if mount.kind == "bind":
        with contextlib.suppress(OSError):
            creates = "dir" if Path(host_path(context, mount.source)).is_dir() else "file"
    source = mount.source
    if mount.subpath:
        from labkit.host.engine.subpaths import subpath_source

        source = subpath_source(context, mount)
        creates = "dir" if Path(host_path(context, source)).is_dir() else "file"
    propagation: Any = mount.propagation or "rprivate"
    return Mount(
        "bind",
        mount.target,
        source=source,
        readonly=not mount.writable,
        recursive=mount.recursive,
        propagation=propagation,
        create=creates,
    )
