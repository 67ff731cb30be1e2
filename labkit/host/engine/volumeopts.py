"""Options of the `local` volume driver: `docker volume create -o type=… -o o=… -o device=…`.

They are the arguments of a mount(8). Docker's driver hands any type to the kernel; here a tmpfs and
a bind (`type=none o=bind`) are mounted, on the lab host, and everything else is refused when the
volume is created, because a lab has no block devices and no file servers.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from labkit.base.errors import InvalidParameter, Unsupported

__all__ = ["MountPlan", "check_options", "mount_plan"]

_KNOWN = frozenset({"type", "o", "device", "size"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_FLAGS = frozenset(
    {"ro", "nosuid", "nodev", "noexec", "sync", "dirsync", "noatime", "nodiratime", "relatime",
     "bind", "rbind"}
)  # fmt: skip
_IGNORED = frozenset({"rw", "suid", "dev", "exec", "async", "defaults", "auto", "noauto"})
_TMPFS_KEYS = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_SERVERS = frozenset({"nfs", "nfs4", "cifs", "smb3", "sshfs", "glusterfs", "ceph"})

MountPlan = tuple[str, str, tuple[str, ...], str]
"""Source, type, flags by name, and the data of mount(2)."""


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Refuse options that contradict each other, with Docker's sentences, or cannot be done."""
    for key in options:
        if key not in _KNOWN:
            raise InvalidParameter(f'create {name}: invalid option: "{key}"')
    for key, others in _NEEDS.items():
        for other in others:
            if key in options and other not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')
    if "size" in options:
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")
    if options:
        mount_plan(name, options)


def mount_plan(name: str, options: Mapping[str, str]) -> MountPlan:
    """What to mount for a volume with `options`. Raises Unsupported, naming the reason."""
    kind, device = options.get("type", ""), options.get("device", "")
    words = [word for word in options.get("o", "").split(",") if word]
    if kind in _SERVERS or any(word.startswith("addr=") for word in words):
        raise Unsupported(
            f"create {name}: a volume of type {kind or 'nfs'} needs a file server, and this lab "
            "has none to reach",
            hint="use a named volume, a bind mount, or -o type=tmpfs -o device=tmpfs",
        )
    if kind == "tmpfs":
        flags, data = _parted(name, words, _TMPFS_KEYS)
        return device or "tmpfs", "tmpfs", flags, data
    if kind in ("none", "bind") or "bind" in words or "rbind" in words:
        flags, _ = _parted(name, words, frozenset())
        if not {"bind", "rbind"} & set(flags):
            flags = (*flags, "bind")
        if not device.startswith("/"):
            raise InvalidParameter(
                f"create {name}: the device of a bind is an absolute path, not '{device}'"
            )
        return posixpath.normpath(device), "", flags, ""
    raise Unsupported(
        f"create {name}: a volume of type {kind} is a block device's; this lab mounts type tmpfs "
        "and type none with o=bind",
        hint="use a named volume without options, or a bind mount",
    )


def _parted(name: str, words: list[str], keys: frozenset[str]) -> tuple[tuple[str, ...], str]:
    flags, data = [], []
    for word in words:
        if word in _FLAGS:
            flags.append(word)
        elif word.partition("=")[0] in keys and "=" in word:
            data.append(word)
        elif word not in _IGNORED:
            raise InvalidParameter(f'create {name}: unknown mount option "{word}"')
    return tuple(flags), ",".join(data)
