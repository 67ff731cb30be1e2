"""The container spec as bytes: the other end of native/wire.c.

A header and records, in the machine's own byte order; the layout is described in native/wire.h.
Sizes are checked here first, because what does not fit a record would otherwise be cut short
silently (CVE-2021-43784 was a length that wrapped).
"""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.capabilities import capability_mask
from labkit.host.isolation.cgroups.limits import Setting
from labkit.host.isolation.cgroups.order import GroupOrder
from labkit.host.isolation.spec import (
    ContainerSpec,
    Device,
    IdMapping,
    IoSpec,
    Mount,
    NamespaceChoice,
    ProcessSpec,
)

__all__ = ["CLONE_FLAGS", "MAX_MESSAGE_BYTES", "FdTable", "Surroundings", "encode"]

MAX_MESSAGE_BYTES: Final = 16 << 20
"""Arguments and environment are bounded by the kernel (a quarter of the stack limit); this is
only the fuse before a mistake fills memory."""

_TOO_LARGE = "argument list too long: the container's spec exceeds 16 MiB"
_MAGIC, _VERSION = 0x50534B4C, 1
_FIRST_FD = 3
(
    _BASICS,
    _ID,
    _HOSTNAME,
    _DOMAINNAME,
    _CWD,
    _LOG_NAME,
    _ARGS,
    _ENV,
    _GROUPS,
    _RLIMIT,
    _SECCOMP,
    _LOWER,
    _UPPER,
    _WORK,
    _ROOT,
    _MOUNT,
    _DEVICE,
    _MASKED,
    _READONLY,
    _SYSCTL,
    _UID_MAP,
    _GID_MAP,
    _JOIN,
    _CGROUP,
    _DETACHED,
    _KEEP,
    _IDMAP,
    _GROUP_NAME,
    _GROUP_FOLDER,
    _GROUP_WRITE,
    _GROUP_PROGRAM,
    _FOREIGN_MAKE,
    _FOREIGN_GO,
    _FOREIGN_HIDDEN,
) = range(1, 35)

_F_HOLD, _F_TTY, _F_INIT, _F_NO_NEW_PRIVS, _F_READONLY_ROOT, _F_OPEN_STDIN = (
    1 << bit for bit in range(6)
)
(
    _F_STDIN_ONCE,
    _F_PRIVILEGED,
    _F_EXEC,
    _F_HAS_CAPS,
    _F_HAS_OOM,
    _F_USERXATTR,
    _F_STOP_BUILT,
) = (1 << bit for bit in range(6, 13))

CLONE_FLAGS: Final = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_MOUNT_KINDS = {
    "bind": 1,
    "tmpfs": 2,
    "proc": 3,
    "sysfs": 4,
    "devpts": 5,
    "mqueue": 6,
    "cgroup1": 7,
    "cgroup2": 8,
}
_CREATE = {"no": 0, "dir": 1, "file": 2}
_PROPAGATION = {"private": 0, "slave": 1 << 19, "shared": 1 << 20}
_RLIMITS = {
    name.removeprefix("RLIMIT_").lower(): int(getattr(resource, name))
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
} | {"locks": 10}
_INFINITY = (1 << 64) - 1


class FdTable:
    """Descriptors handed to a shim; each gets the number it will have over there."""

    def __init__(self, *, first: int = _FIRST_FD) -> None:
        self.fds: list[int] = []
        self._first = first

    def add(self, fd: int) -> int:
        """The descriptor's number in the shim."""
        self.fds.append(fd)
        return self._first + len(self.fds) - 1


@dataclass(slots=True)
class Surroundings:
    """Numbers (in the shim) of what a process is started in; -1 where there is none."""

    state: int
    log: int = -1
    host_mnt: int = -1
    host_net: int = -1
    cgroup_directory: int = -1
    cgroup_tasks: tuple[int, ...] = ()
    order: GroupOrder | None = None
    """A group for the shim to make or enter; `cgroup_tasks` and `cgroup_directory` are the same
    thing already opened, for starts without a shim."""
    group_program: int = -1
    target_pidfd: int = -1
    target_pid: int = 0
    joins: dict[str, int] = field(default_factory=dict)
    hold: bool = False
    userxattr: bool = False
    cgroup_version: int = 0
    """1, 2, or 0 where no cgroup file system can be shown inside."""
    cgroup_hierarchies: tuple[str, ...] = ()
    log_name: str = ""
    detached: tuple[int, int, int, int] | None = None
    """Of a process without a shim (oci/): the socket it waits at, then its stdio."""
    kept: tuple[int, ...] = ()
    """What it finds at 3 and above."""
    stop_built: bool = False
    """Whether it stops once before pivot_root."""
    idmaps: dict[int, int] = field(default_factory=dict)
    """For mounts, by position: a user namespace whose ids they show."""


def _text(value: str | os.PathLike[str], what: str) -> bytes:
    data = os.fsencode(value)
    if b"\0" in data:
        raise InvalidParameter(f"invalid {what}: it holds a NUL byte")
    return data + b"\0"


class _Message:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 16

    def record(self, tag: int, body: bytes) -> None:
        if len(body) >= MAX_MESSAGE_BYTES or self._size + len(body) >= MAX_MESSAGE_BYTES:
            raise InvalidParameter(_TOO_LARGE)
        self._parts.append(struct.pack("=HHI", tag, 0, len(body)))
        self._parts.append(body)
        self._size += 8 + len(body)

    def text(self, tag: int, value: str | os.PathLike[str], what: str) -> None:
        if os.fspath(value):
            self.record(tag, _text(value, what))

    def texts(self, tag: int, values: Iterable[str], what: str) -> None:
        body = b"".join([_text(value, what) for value in values])
        if body:
            self.record(tag, body)

    def whole(self, records: bytes) -> None:
        """Records made by another message."""
        self._size += len(records)
        if self._size > MAX_MESSAGE_BYTES:
            raise InvalidParameter(_TOO_LARGE)
        self._parts.append(records)

    def records(self) -> bytes:
        return b"".join(self._parts)

    def finish(self) -> bytes:
        return struct.pack("=IIII", _MAGIC, _VERSION, self._size, 0) + b"".join(self._parts)


def encode(
    spec: ContainerSpec | None, process: ProcessSpec, io: IoSpec, around: Surroundings, name: str
) -> bytes:
    """One message for a container (`spec` given) or for an exec in a running one (None).

    `name` is the id that shim.json repeats. Raises InvalidParameter for what cannot be said.
    """
    message = _Message()
    message.record(_BASICS, _basics(spec, process, io, around))
    message.text(_ID, name, "id")
    message.text(_CWD, process.cwd, "working directory")
    message.text(_LOG_NAME, around.log_name, "log name")
    if not process.args:
        raise InvalidParameter("no command specified")
    message.texts(_ARGS, process.args, "argument")
    message.texts(_ENV, process.env, "environment variable")
    if process.groups:
        message.record(_GROUPS, struct.pack(f"={len(process.groups)}I", *process.groups))
    for limit in process.rlimits:
        if limit.name not in _RLIMITS:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        soft, hard = (_INFINITY if v < 0 else v for v in (limit.soft, limit.hard))
        message.record(_RLIMIT, struct.pack("=IIQQ", _RLIMITS[limit.name], 0, soft, hard))
    if process.seccomp:
        message.record(_SECCOMP, process.seccomp)
    for handle in around.cgroup_tasks:
        message.record(_CGROUP, struct.pack("=i", handle))
    if around.order is not None:
        _group(message, around.order, around.group_program)
    for kind, handle in around.joins.items():
        message.record(_JOIN, struct.pack("=Ii", CLONE_FLAGS[kind], handle))
    if process.foreign is not None:
        message.texts(_FOREIGN_MAKE, process.foreign.make, "runtime's arguments")
        message.texts(_FOREIGN_GO, process.foreign.go, "runtime's arguments")
        message.text(_FOREIGN_HIDDEN, process.foreign.hidden, "path")
    if around.detached is not None:
        message.record(_DETACHED, struct.pack("=iiii", *around.detached))
    for handle in around.kept:
        message.record(_KEEP, struct.pack("=i", handle))
    if spec is not None:
        _container(message, spec, around)
    return message.finish()


_MAKE, _UNIFIED = 1, 2


@lru_cache(maxsize=64)
def _group_records(
    folders: tuple[int, ...], flags: int, writes: tuple[tuple[int, Setting], ...]
) -> bytes:
    message = _Message()
    for number in folders:
        message.record(_GROUP_FOLDER, struct.pack("=II", number, flags))
    for folder, setting in writes:
        head = struct.pack("=HH", folder, 1 if setting.missing else 0)
        texts = _text(setting.file, "file") + _text(setting.value, "limit")
        message.record(_GROUP_WRITE, head + texts)
    return message.records()


@lru_cache(maxsize=64)
def _paths(tag: int, paths: tuple[str, ...]) -> bytes:
    message = _Message()
    for each in paths:
        message.text(tag, each, "path")
    return message.records()


def _group(message: _Message, order: GroupOrder, program: int) -> None:
    message.text(_GROUP_NAME, order.name, "control group")
    flags = (_MAKE if order.make else 0) | (_UNIFIED if order.unified else 0)
    message.whole(_group_records(order.folders, flags, order.writes))
    if program >= 0:
        message.record(_GROUP_PROGRAM, struct.pack("=i", program))


@lru_cache(maxsize=64)
def _capabilities(names: frozenset[str]) -> int:
    return capability_mask(names)


def _basics(
    spec: ContainerSpec | None, process: ProcessSpec, io: IoSpec, around: Surroundings
) -> bytes:
    flags = 0
    for condition, bit in (
        (around.hold, _F_HOLD),
        (process.tty, _F_TTY),
        (spec is not None and spec.init, _F_INIT),
        (process.no_new_privs, _F_NO_NEW_PRIVS),
        (spec is not None and spec.root.readonly, _F_READONLY_ROOT),
        (io.open_stdin, _F_OPEN_STDIN),
        (io.stdin_once, _F_STDIN_ONCE),
        (spec is not None and spec.privileged, _F_PRIVILEGED),
        (spec is None, _F_EXEC),
        (process.capabilities is not None, _F_HAS_CAPS),
        (process.oom_score_adj is not None, _F_HAS_OOM),
        (around.userxattr, _F_USERXATTR),
        (around.stop_built, _F_STOP_BUILT),
    ):
        flags |= bit if condition else 0
    clone = 0
    if spec is not None:
        for kind, choice in spec.namespaces.items():
            clone |= CLONE_FLAGS[kind] if choice is NamespaceChoice.NEW else 0
        if not clone & CLONE_FLAGS["mnt"]:
            raise InvalidParameter("a container needs a mount namespace of its own")
    sets = process.capabilities
    masks = [0] * 5
    if sets is not None:
        names = (sets.bounding, sets.permitted, sets.effective, sets.inheritable, sets.ambient)
        masks = [_capabilities(frozenset(each)) for each in names]
    rows, columns = process.console_size or (0, 0)
    return struct.pack(
        "=IIQIIiHHiiiiiiiiqQQQQQ",
        flags,
        process.umask,
        clone,
        process.uid,
        process.gid,
        process.oom_score_adj or 0,
        min(max(rows, 0), 0xFFFF),
        min(max(columns, 0), 0xFFFF),
        around.state,
        around.log,
        around.target_pidfd,
        around.target_pid,
        around.host_mnt,
        around.host_net,
        around.cgroup_directory,
        max(io.log_max_files, 1),
        io.log_max_bytes,
        *masks,
    )


@lru_cache(maxsize=256)  # most containers have most of their mounts in common
def _mount(mount: Mount, cgroup_version: int, hierarchies: tuple[str, ...]) -> bytes | None:
    kind, source = mount.kind, mount.source
    number = _MOUNT_KINDS.get(kind, 0)
    if kind == "cgroup":
        if cgroup_version == 0:
            return None
        number = _MOUNT_KINDS[f"cgroup{cgroup_version}"]
        source = " ".join(hierarchies)
    base = mount.propagation.removeprefix("r")
    flags = (
        (1 if mount.readonly else 0)
        | (2 if mount.nosuid else 0)
        | (4 if mount.nodev else 0)
        | (8 if mount.noexec else 0)
        | (16 if mount.recursive else 0)
        | (32 if mount.propagation.startswith("r") else 0)
    )
    head = struct.pack("=BBHII", number, _CREATE[mount.create], 0, flags, _PROPAGATION[base])
    target = os.path.normpath("/" + mount.target.lstrip("/"))
    return (
        head
        + _text(target, "mount target")
        + _text(source, "mount source")
        + _text(mount.data, "mount options")
    )


@lru_cache(maxsize=256)
def _device(device: Device) -> bytes:
    node = os.path.normpath("/" + device.path.lstrip("/"))
    return _text(node, "device path") + _text(device.source, "device")


def _map_text(mappings: Sequence[IdMapping]) -> str:
    return "".join(f"{m.inside} {m.outside} {m.count}\n" for m in mappings)


_IPC_SYSCTLS = frozenset(
    f"kernel/{name}"
    for name in (
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    )
)


def _sysctl(spec: ContainerSpec, key: str) -> bytes:
    """The file below /proc/sys. Only parameters of a namespace of the container's own pass:
    any other would be changed for the whole machine (sysctl(7) and namespaces(7) say which)."""
    file = key if "/" in key else key.replace(".", "/")
    parts = file.split("/")
    own = {kind for kind, choice in spec.namespaces.items() if choice is not NamespaceChoice.HOST}
    if "" in parts or "." in parts or ".." in parts:
        raise InvalidParameter(f"invalid sysctl name: {key}")
    if (
        ("net" in own and parts[0] == "net")
        or ("ipc" in own and (file in _IPC_SYSCTLS or file.startswith("fs/mqueue/")))
        or ("uts" in own and file == "kernel/domainname")
    ):
        return _text(file, "sysctl")
    raise InvalidParameter(
        f'sysctl "{key}" is not in a separate kernel namespace',
        hint="net.* belongs to a network namespace; kernel.shm*, kernel.msg*, kernel.sem and "
        "fs.mqueue.* to an ipc namespace; all others are the whole machine's",
    )


def _container(message: _Message, spec: ContainerSpec, around: Surroundings) -> None:
    message.text(_HOSTNAME, spec.hostname, "hostname")
    message.text(_DOMAINNAME, spec.domainname, "domainname")
    root = spec.root
    for lower in root.lowers:
        message.text(_LOWER, lower, "layer path")
    for tag, path in ((_UPPER, root.upper), (_WORK, root.work), (_ROOT, root.path)):
        if path is not None:
            message.text(tag, path, "root path")
    if not root.lowers and root.path is None:
        raise InvalidParameter("the container has no root file system")
    for index, mount in enumerate(spec.mounts):
        body = _mount(mount, around.cgroup_version, around.cgroup_hierarchies)
        if body is not None:
            message.record(_MOUNT, body)
            if index in around.idmaps:
                message.record(_IDMAP, struct.pack("=i", around.idmaps[index]))
    for device in spec.devices:
        message.record(_DEVICE, _device(device))
    message.whole(_paths(_MASKED, tuple(spec.masked_paths)))
    message.whole(_paths(_READONLY, tuple(spec.readonly_paths)))
    for key, value in spec.sysctls.items():
        message.record(_SYSCTL, _sysctl(spec, key) + _text(value, "sysctl"))
    message.text(_UID_MAP, _map_text(spec.uid_map), "id map")
    message.text(_GID_MAP, _map_text(spec.gid_map), "id map")
