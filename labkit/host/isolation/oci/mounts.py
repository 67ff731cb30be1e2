"""The mounts of a config.json (config.md, mounts) as mounts of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.isolation.spec import Mount

__all__ = ["MOUNT_OPTIONS", "id_map_requests", "mounts_from"]

_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
Propagation = Literal["private", "rprivate", "slave", "rslave", "shared", "rshared"]

# Option: (what it decides, to what). mount(8), "filesystem-independent mount options".
_FLAGS: Mapping[str, tuple[str, bool]] = {
    "ro": ("readonly", True),
    "rro": ("readonly", True),
    "rw": ("readonly", False),
    "rrw": ("readonly", False),
    "nosuid": ("nosuid", True),
    "suid": ("nosuid", False),
    "nodev": ("nodev", True),
    "dev": ("nodev", False),
    "noexec": ("noexec", True),
    "exec": ("noexec", False),
}
# What asks for no more than what is so anyway, or is only about when access times are written.
_WITHOUT_EFFECT = frozenset(
    [
        "async",
        "atime",
        "defaults",
        "diratime",
        "lazytime",
        "loud",
        "mand",
        "noatime",
        "nodiratime",
        "noiversion",
        "iversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "relatime",
        "silent",
        "strictatime",
        "sync",
        "dirsync",
        "nosymfollow",
        "symfollow",
    ]
)
_KINDS: Mapping[str, str] = {
    "bind": "bind",
    "tmpfs": "tmpfs",
    "proc": "proc",
    "sysfs": "sysfs",
    "devpts": "devpts",
    "mqueue": "mqueue",
    "cgroup": "cgroup",
    "cgroup2": "cgroup",
}
MOUNT_OPTIONS: tuple[str, ...] = tuple(
    sorted({*_FLAGS, *_WITHOUT_EFFECT, *_PROPAGATIONS, "bind", "rbind", "idmap", "ridmap"})
)
"""Every option that is understood for any type, for `features`."""


def mounts_from(entries: Sequence[Mapping[str, Any]], bundle: str) -> tuple[Mount, ...]:
    """The mounts in order; relative sources are relative to the bundle.

    Raises InvalidParameter for nonsense, Unsupported for a file system the core does not mount.
    """
    return tuple(_mount(entry, bundle) for entry in entries)


def id_map_requests(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Positions of the mounts that are to show mapped ids."""
    return [
        index
        for index, entry in enumerate(entries)
        if entry.get("uidMappings")
        or entry.get("gidMappings")
        or {"idmap", "ridmap"} & set(entry.get("options") or ())
    ]


def _mount(entry: Mapping[str, Any], bundle: str) -> Mount:
    target = entry.get("destination")
    if not isinstance(target, str) or not target:
        raise InvalidParameter("invalid mount: it has no destination")
    options = list(entry.get("options") or ())
    kind = str(entry.get("type") or "none")
    if kind == "bind" or {"bind", "rbind"} & set(options):
        return _bind(entry, target, options, bundle)
    if kind not in _KINDS:
        raise Unsupported(
            f"cannot mount {target}: file systems of type {kind} are not mounted for containers",
            hint="mount it on the machine and bind it",
        )
    flags, propagation, data = _split(options)
    return Mount(
        kind=cast(Any, _KINDS[kind]),
        target=target,
        data="" if _KINDS[kind] == "cgroup" else ",".join(data),
        propagation=propagation,
        readonly=flags.get("readonly", False),
        nosuid=flags.get("nosuid", False),
        nodev=flags.get("nodev", False),
        noexec=flags.get("noexec", False),
    )


def _bind(entry: Mapping[str, Any], target: str, options: Sequence[str], bundle: str) -> Mount:
    source = entry.get("source")
    if not isinstance(source, str) or not source:
        raise InvalidParameter(f"invalid mount {target}: a bind mount needs a source")
    flags, propagation, data = _split(options)
    unknown = [option for option in data if option not in ("bind", "rbind", "idmap", "ridmap")]
    if unknown:
        # The kernel ignores data of a bind mount; whoever wrote it meant something.
        raise InvalidParameter(
            f"invalid mount {target}: a bind mount takes no option {unknown[0]!r}"
        )
    return Mount(
        kind="bind",
        target=target,
        source=os.path.normpath(os.path.join(bundle, source)),
        recursive="rbind" in options or "bind" not in options,
        propagation=propagation,
        readonly=flags.get("readonly", False),
        nosuid=flags.get("nosuid", False),
        nodev=flags.get("nodev", False),
        noexec=flags.get("noexec", False),
    )


def _split(options: Sequence[str]) -> tuple[dict[str, bool], Propagation, list[str]]:
    """Flags, propagation, and what is left for the file system itself."""
    flags: dict[str, bool] = {}
    propagation: Propagation = "rprivate"
    data: list[str] = []
    for option in options:
        if option in _FLAGS:
            name, value = _FLAGS[option]
            flags[name] = value
        elif option in _PROPAGATIONS:
            propagation = cast(Propagation, option)
        elif option in ("unbindable", "runbindable"):
            raise Unsupported("mounts cannot be made unbindable here", hint="use private")
        elif option == "tmpcopyup":
            continue  # what the image has at the target is hidden, as by Docker's --tmpfs
        elif option not in _WITHOUT_EFFECT:
            data.append(option)
    return flags, propagation, data
