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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.container import MountRecord
from labkit.host.engine.hostconfig import HostConfig, MountPoint
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.isolation.spec import Mount

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["core_mounts", "host_path", "prepare_sources", "resolve_mounts"]

_PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_MODES = frozenset({"rw", "ro", "z", "Z", "nocopy", "consistent", "cached", "delegated"})
_TMPFS_FLAGS_TEXT = (
    "ro rw nosuid suid nodev dev noexec exec sync async remount dirsync mand nomand atime "
    "noatime diratime nodiratime bind rbind unbindable private shared slave relatime "
    "norelatime strictatime nostrictatime"
)
_TMPFS_FLAGS = frozenset(_TMPFS_FLAGS_TEXT.split())


def host_path(context: Context, path: str) -> str:
    """`path` of the lab host as this process can open it."""
    host = context.ports.host
    if host is None or not host.anchor_pid:
        return path
    return f"/proc/{host.anchor_pid}/root{path}"


def _bind(spec: str) -> MountRecord:
    """One `-v` entry that names a source."""
    parts = spec.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise InvalidParameter(f"invalid volume specification: '{spec}'")
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else ""
    words = [word for word in mode.split(",") if word]
    for word in words:
        if word not in _MODES and word not in _PROPAGATIONS:
            raise InvalidParameter(f"invalid mode: {mode}")
    _check_target(target, spec)
    writable = "ro" not in words
    if source.startswith("/"):
        propagation = next((word for word in words if word in _PROPAGATIONS), "rprivate")
        return MountRecord(
            "bind",
            posixpath.normpath(source),
            posixpath.normpath(target),
            writable,
            mode,
            propagation=propagation,
        )
    return MountRecord(
        "volume",
        "",
        posixpath.normpath(target),
        writable,
        mode or "z",
        name=source,
        options="nocopy" if "nocopy" in words else "",
    )


def _check_target(target: str, spec: str) -> None:
    if not target.startswith("/"):
        raise InvalidParameter(
            f"invalid volume specification: '{spec}': invalid mount config for type \"bind\": "
            f"invalid mount path: '{target}' mount path must be absolute"
        )
    if posixpath.normpath(target) == "/":
        raise InvalidParameter(
            f"invalid volume specification: '{spec}': invalid mount config: destination can't be "
            "'/'"
        )


def _invalid(kind: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f'invalid mount config for type "{kind}": {reason}')


def _mount_point(context: Context, given: MountPoint) -> MountRecord:
    """One `--mount` entry."""
    kind, target = given.type, given.target
    if not target:
        raise _invalid(kind, "field Target must not be empty")
    if not target.startswith("/"):
        raise _invalid(kind, f"invalid mount path: '{target}' mount path must be absolute")
    target = posixpath.normpath(target)
    if target == "/":
        raise _invalid(kind, "invalid specification: destination can't be '/'")
    writable = not given.read_only
    if kind == "bind":
        options = given.bind_options or {}
        if not given.source:
            raise _invalid(kind, "field Source must not be empty")
        if not given.source.startswith("/"):
            raise _invalid(
                kind, f"invalid mount path: '{given.source}' mount path must be absolute"
            )
        if not os.path.lexists(host_path(context, given.source)) and not options.get(
            "CreateMountpoint"
        ):
            raise _invalid(kind, f"bind source path does not exist: {given.source}")
        propagation = str(options.get("Propagation") or "rprivate")
        if propagation not in _PROPAGATIONS:
            raise _invalid(kind, f"invalid propagation mode: {propagation}")
        return MountRecord(
            "bind",
            posixpath.normpath(given.source),
            target,
            writable,
            propagation=propagation,
            recursive=not options.get("NonRecursive"),
        )
    if kind == "volume":
        nocopy = bool((given.volume_options or {}).get("NoCopy"))
        return MountRecord(
            "volume",
            "",
            target,
            writable,
            "z",
            name=given.source,
            options="nocopy" if nocopy else "",
            anonymous=not given.source,
        )
    if kind == "tmpfs":
        if given.source:
            raise _invalid(kind, "field Source must not be specified")
        options = given.tmpfs_options or {}
        words = []
        if options.get("SizeBytes"):
            words.append(f"size={int(options['SizeBytes'])}")
        if options.get("Mode"):
            words.append(f"mode={int(options['Mode']):o}")
        return MountRecord("tmpfs", "", target, writable, options=",".join(words))
    if kind in ("npipe", "cluster", "image"):
        raise _invalid(kind, f"mounts of type {kind} are not available in this lab")
    raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown')


async def resolve_mounts(
    context: Context, config: ContainerConfig, host: HostConfig
) -> tuple[MountRecord, ...]:
    """Every mount the container will have, volumes made where they are missing."""
    found: dict[str, MountRecord] = {}
    for reference in host.volumes_from or ():
        name, _, mode = reference.partition(":")
        for mount in context.find(name).definition.mounts:
            if mode == "ro":
                mount = _readonly(mount)
            found[mount.target] = mount
    own: set[str] = set()
    entries = [_bind(spec) for spec in host.binds or ()]
    entries += [_mount_point(context, given) for given in host.mounts or ()]
    for target, options in (host.tmpfs or {}).items():
        entries.append(_tmpfs(target, options))
    for entry in entries:
        if entry.target in own:
            raise InvalidParameter(f"Duplicate mount point: {entry.target}")
        own.add(entry.target)
        found[entry.target] = entry
    for target in config.volumes or ():
        if not target.startswith("/"):
            raise InvalidParameter(
                f"invalid volume specification: '{target}': invalid mount path: '{target}' mount "
                "path must be absolute"
            )
        clean = posixpath.normpath(target)
        found.setdefault(clean, MountRecord("volume", "", clean, True, anonymous=True))
    return tuple([await _with_volume(context, entry) for entry in found.values()])


def _readonly(mount: MountRecord) -> MountRecord:
    return MountRecord(
        mount.kind, mount.source, mount.target, False, mount.mode, mount.name, mount.propagation,
        mount.options, mount.anonymous, mount.recursive,
    )  # fmt: skip


def _tmpfs(target: str, options: str) -> MountRecord:
    if not target.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")
    for word in filter(None, options.split(",")):
        if word not in _TMPFS_FLAGS and word.partition("=")[0] not in (
            "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol",
        ):  # fmt: skip
            raise InvalidParameter(f'invalid tmpfs option ["{word}"]')
    return MountRecord("tmpfs", "", posixpath.normpath(target), options=options)


async def _with_volume(context: Context, entry: MountRecord) -> MountRecord:
    if entry.kind != "volume" or entry.source:
        return entry
    volume = await context.volumes.ensure(entry.name)
    return MountRecord(
        "volume",
        str(context.volumes.folder(volume.name)),
        entry.target,
        entry.writable,
        entry.mode,
        volume.name,
        entry.propagation,
        entry.options,
        entry.anonymous,
        entry.recursive,
    )


async def prepare_sources(
    context: Context, mounts: Iterable[MountRecord], files: RootFiles
) -> None:
    """Make missing sources of `-v` binds (as Docker does) and fill fresh volumes."""
    for mount in mounts:
        if mount.kind == "bind":
            await asyncio.to_thread(_make_source, host_path(context, mount.source), mount.source)
        elif mount.kind == "volume" and "nocopy" not in mount.options:
            await asyncio.to_thread(context.volumes.fill, mount.name, mount.target, files)


def _make_source(opened: str, spelt: str) -> None:
    if os.path.lexists(opened):
        return
    try:
        os.makedirs(opened, exist_ok=True)
    except OSError as error:
        raise SystemFailure(
            f"error while creating mount source path '{spelt}': mkdir {spelt}: {error.strerror}"
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
    propagation: Any = mount.propagation or "rprivate"
    return Mount(
        "bind",
        mount.target,
        source=mount.source,
        readonly=not mount.writable,
        recursive=mount.recursive,
        propagation=propagation,
        create=creates,
    )
