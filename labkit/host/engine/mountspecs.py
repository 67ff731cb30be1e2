"""The words of `-v`, `--mount` and `--tmpfs` as MountRecords, or Docker's sentence of refusal."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.engine.container import MountRecord
from labkit.host.engine.hostconfig import MountPoint

__all__ = ["PROPAGATIONS", "bind_record", "check_mode", "mount_record", "tmpfs_record"]

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_MODES = frozenset({"rw", "ro", "z", "Z", "nocopy", "consistent", "cached", "delegated"})
_TMPFS_FLAGS_TEXT = (
    "ro rw nosuid suid nodev dev noexec exec sync async remount dirsync mand nomand atime "
    "noatime diratime nodiratime bind rbind unbindable private shared slave relatime "
    "norelatime strictatime nostrictatime"
)
_TMPFS_FLAGS = frozenset(_TMPFS_FLAGS_TEXT.split())
_TMPFS_KEYS = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_BIND_KEYS = frozenset(
    {"Propagation", "NonRecursive", "CreateMountpoint", "ReadOnlyNonRecursive",
     "ReadOnlyForceRecursive"}
)  # fmt: skip


def check_mode(mode: str) -> list[str]:
    """The words of the third field of `-v`, each known and none of them said twice over."""
    words = [word for word in mode.split(",") if word]
    kinds = [
        {"rw": "access", "ro": "access", "z": "label", "Z": "label", "nocopy": "copy"}.get(
            word, "propagation" if word in PROPAGATIONS else "consistency"
        )
        for word in words
    ]
    known = all(word in _MODES or word in PROPAGATIONS for word in words)
    if not known or len(kinds) != len(set(kinds)):
        raise InvalidParameter(f"invalid mode: {mode}")
    return words


def bind_record(spec: str) -> MountRecord:
    """One `-v` entry that names a source: a path, or a volume."""
    parts = spec.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise InvalidParameter(f"invalid volume specification: '{spec}'")
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else ""
    words = check_mode(mode)
    _check_target(target, spec)
    writable = "ro" not in words
    if source.startswith("/"):
        if "nocopy" in words:
            raise InvalidParameter(f"invalid mode: {mode}")
        propagation = next((word for word in words if word in PROPAGATIONS), "rprivate")
        return MountRecord(
            "bind",
            posixpath.normpath(source),
            posixpath.normpath(target),
            writable,
            mode,
            propagation=propagation,
        )
    if any(word in PROPAGATIONS for word in words):
        raise InvalidParameter(f"invalid mode: {mode}")
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
            f"invalid volume specification: '{spec}': invalid mount config for type "
            f'"{"bind" if spec.startswith("/") else "volume"}": invalid specification: '
            "destination can't be '/'"
        )


def _invalid(kind: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f'invalid mount config for type "{kind}": {reason}')


def mount_record(given: MountPoint, opened: Callable[[str], str]) -> MountRecord:
    """One `--mount` entry. `opened` turns a path of the lab host into one that can be looked at."""
    kind, target = given.type, given.target
    if not target:
        raise _invalid(kind, "field Target must not be empty")
    if not target.startswith("/"):
        raise _invalid(kind, f"invalid mount path: '{target}' mount path must be absolute")
    target = posixpath.normpath(target)
    if target == "/":
        raise _invalid(kind, "invalid specification: destination can't be '/'")
    own = {
        "bind": given.bind_options,
        "volume": given.volume_options,
        "tmpfs": given.tmpfs_options,
    }
    for word, options in own.items():
        if options is not None and word != kind and kind in own:
            name = word.capitalize() if word != "tmpfs" else "Tmpfs"
            raise _invalid(kind, f"field {name}Options must not be specified")
    if kind == "bind":
        return _bind_mount(given, target, opened)
    if kind == "volume":
        return _volume_mount(given, target)
    if kind == "tmpfs":
        return _tmpfs_mount(given, target)
    if kind in ("npipe", "cluster", "image"):
        raise _invalid(kind, f"mounts of type {kind} are not available in this lab")
    raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown')


def _bind_mount(given: MountPoint, target: str, opened: Callable[[str], str]) -> MountRecord:
    options = given.bind_options or {}
    if not given.source:
        raise _invalid("bind", "field Source must not be empty")
    if not given.source.startswith("/"):
        raise _invalid("bind", f"invalid mount path: '{given.source}' mount path must be absolute")
    creates = bool(options.get("CreateMountpoint"))
    if not creates and not os.path.lexists(opened(given.source)):
        raise _invalid("bind", f"bind source path does not exist: {given.source}")
    for key in options:
        if key not in _BIND_KEYS:
            raise _invalid("bind", f"unknown option {key}")
    propagation = str(options.get("Propagation") or "rprivate")
    if propagation not in PROPAGATIONS:
        raise _invalid("bind", f"invalid propagation mode: {propagation}")
    return MountRecord(
        "bind",
        posixpath.normpath(given.source),
        target,
        not given.read_only,
        propagation=propagation,
        recursive=not options.get("NonRecursive"),
        must_exist=not creates,
    )


def _volume_mount(given: MountPoint, target: str) -> MountRecord:
    options = given.volume_options or {}
    subpath = options.get("Subpath") or ""
    if not isinstance(subpath, str):
        raise _invalid("volume", "Subpath must be a string")
    if subpath:
        if not given.source:
            raise _invalid("volume", "must not set Subpath when using anonymous volumes")
        if subpath.startswith("/") or posixpath.normpath(subpath).startswith(".."):
            raise _invalid("volume", "subpath must be a relative path within the volume")
    return MountRecord(
        "volume",
        "",
        target,
        not given.read_only,
        "z",
        name=given.source,
        options="nocopy" if options.get("NoCopy") else "",
        anonymous=not given.source,
        subpath=posixpath.normpath(subpath) if subpath else "",
    )


def _tmpfs_mount(given: MountPoint, target: str) -> MountRecord:
    if given.source:
        raise _invalid("tmpfs", "field Source must not be specified")
    options = given.tmpfs_options or {}
    words = []
    for key, form in (("SizeBytes", "size={}"), ("Mode", "mode={:o}")):
        value = options.get(key)
        if value is not None and (not isinstance(value, int) or value < 0):
            raise _invalid("tmpfs", f"{key} must be a number")
        if value:
            words.append(form.format(value))
    words += [
        _tmpfs_word("=".join(pair) if isinstance(pair, list) else pair)
        for pair in options.get("Options") or ()
    ]
    return MountRecord("tmpfs", "", target, not given.read_only, options=",".join(words))


def _tmpfs_word(word: Any) -> str:
    if not isinstance(word, str) or (
        word not in _TMPFS_FLAGS and word.partition("=")[0] not in _TMPFS_KEYS
    ):
        raise InvalidParameter(f'invalid tmpfs option ["{word}"]')
    return word


def tmpfs_record(target: str, options: str) -> MountRecord:
    """One `--tmpfs` entry."""
    if not target.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")
    for word in filter(None, options.split(",")):
        _tmpfs_word(word)
    return MountRecord("tmpfs", "", posixpath.normpath(target), options=options)
