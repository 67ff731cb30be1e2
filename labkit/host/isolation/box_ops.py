"""A box's operations: their arguments on the wire, and what a refusal by the kernel means."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.capabilities import capability_mask, normalize_capability
from labkit.host.isolation.defaults import DEFAULT_PATH

__all__ = ["OPERATIONS", "encode_arguments", "explain", "mount_flags"]

Words = list[str | bytes]

_FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "remount": 32,
    "noatime": 1024,
    "bind": 4096,
    "move": 8192,
    "rec": 16384,
    "unbindable": 1 << 17,
    "private": 1 << 18,
    "slave": 1 << 19,
    "shared": 1 << 20,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "rbind": 4096 | 16384,
    "rprivate": 1 << 18 | 16384,
    "rslave": 1 << 19 | 16384,
    "rw": 0,
    "defaults": 0,
}

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_OUTPUT_BYTES = 64 << 10


def mount_flags(flags: str | int | Sequence[str]) -> int:
    """MS_ bits from names as in mount(8): `"ro,nosuid"` or a list; a number passes."""
    if isinstance(flags, int):
        return flags
    names = flags.split(",") if isinstance(flags, str) else list(flags)
    value = 0
    for name in (name.strip() for name in names):
        if name and name not in _FLAGS:
            raise InvalidParameter(
                f"unknown mount flag {name!r}", hint="flags are " + ", ".join(sorted(_FLAGS))
            )
        value |= _FLAGS.get(name, 0)
    return value


def _names(value: str | Sequence[str]) -> Words:
    return list(value.replace(",", " ").split() if isinstance(value, str) else value)


def _program(
    argv: str | Sequence[str], env: Mapping[str, str] | None, extra: Mapping[str, str]
) -> Words:
    words = shlex.split(argv) if isinstance(argv, str) else list(argv)
    if not words:
        raise InvalidParameter("no program to run")
    if any("\0" in word for word in words):
        raise InvalidParameter("a NUL character cannot be part of an argument")
    full = {"PATH": DEFAULT_PATH, "HOME": "/root", "TERM": "dumb", **extra, **(env or {})}
    return [str(len(words)), *words, *(f"{key}={value}" for key, value in full.items())]


def _run(
    argv: str | Sequence[str],
    env: Mapping[str, str] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    max_output_bytes: int = DEFAULT_OUTPUT_BYTES,
    stdin: str | bytes = b"",
) -> Words:
    text = stdin.encode() if isinstance(stdin, str) else stdin
    head: Words = [str(int(timeout_s * 1000)), str(max_output_bytes), text]
    return head + _program(argv, env, {})


def _mount(
    source: str = "",
    target: str = "",
    fstype: str = "",
    flags: str | int | Sequence[str] = 0,
    data: str = "",
) -> Words:
    return [source, target, fstype, str(mount_flags(flags)), data]


def _keep(keep: Sequence[str] = ()) -> Words:
    return [hex(capability_mask(normalize_capability(name) for name in keep))]


OPERATIONS: Mapping[str, Callable[..., Words]] = {
    "unshare": lambda kinds: _names(kinds),
    "chroot": lambda path, chdir=True: [path, "" if chdir else "stay"],
    "pivot_root": lambda new, old="": [new, old],
    "mount": _mount,
    "umount": lambda target, detach=False: [target, "detach" if detach else ""],
    "sethostname": lambda name: [name],
    "chdir": lambda path: [path],
    "mkdir": lambda path, mode=0o755: [path, str(mode)],
    "write_file": lambda path, text="", create=True: [path, text, "new" if create else ""],
    "read_file": lambda path, max_bytes=1 << 16: [path, str(max_bytes)],
    "symlink": lambda target, path: [target, path],
    "mknod": lambda path, type="c", major=0, minor=0, mode=0o666: [  # noqa: A006
        path,
        type,
        str(major),
        str(minor),
        str(mode),
    ],
    "setuid": lambda uid: [str(uid)],
    "setgid": lambda gid: [str(gid)],
    "setgroups": lambda groups=(): [str(gid) for gid in groups],
    "capabilities": _keep,
    "no_new_privs": list,
    "seccomp": lambda program: [program],
    "lo_up": list,
    "info": list,
    "run": _run,
    "spawn": lambda argv, env=None: _program(argv, env, {}),
    "kill": lambda pid, signal=15: [str(pid), str(signal)],
    "children": list,
}
"""Operation to the function that puts its arguments on the wire."""


def encode_arguments(operation: str, arguments: Mapping[str, Any]) -> Words:
    """The wire arguments. Raises InvalidParameter for an unknown operation or argument."""
    encoder = OPERATIONS.get(operation)
    if encoder is None:
        raise InvalidParameter(
            f"a box cannot do {operation!r}", hint="it can " + ", ".join(sorted(OPERATIONS))
        )
    try:
        return encoder(**arguments)
    except (TypeError, AttributeError) as error:
        words = str(error).replace("<lambda>()", operation).replace("_run()", "run")
        raise InvalidParameter(f"wrong arguments for {operation}: {words}") from None


_HINTS: Mapping[tuple[str, int], str] = {
    ("unshare", errno.EPERM): (
        "making this namespace needs CAP_SYS_ADMIN: as an ordinary user unshare 'user' first; "
        "and a user namespace cannot be made inside a chroot"
    ),
    ("unshare", errno.EINVAL): "a user namespace needs a process with a single thread",
    ("unshare", errno.ENOSPC): "a limit of user.max_*_namespaces (sysctl) is reached",
    ("unshare", errno.EUSERS): "namespaces are nested too deep (32 levels at most)",
    ("chroot", errno.EPERM): "chroot needs CAP_SYS_CHROOT",
    ("pivot_root", errno.EINVAL): (
        "the new root must be a mount point (bind it on itself first), the mount above it must "
        "not be shared, and this process's root must be one too (not a chroot)"
    ),
    ("pivot_root", errno.EBUSY): (
        "the new root is on the same mount as the old one: make it a mount point of its own "
        "(bind it on itself first)"
    ),
    ("pivot_root", errno.EPERM): "pivot_root needs a mount namespace of this user namespace's own",
    ("mount", errno.EPERM): (
        "mounting needs CAP_SYS_ADMIN over the mount namespace: after unshare('user') the old "
        "one is not yours, unshare 'mnt' as well"
    ),
    ("mount", errno.EINVAL): "the options do not fit the file system, or the source is no mount",
    ("mount", errno.ENODEV): "the kernel does not know this file system type",
    ("mount", errno.ENOENT): "the source or the target is not there: make it first",
    ("mount", errno.EBUSY): "it is mounted there already, or in use",
    ("umount2", errno.EBUSY): "something still uses it; detach=True takes it away lazily",
    ("umount2", errno.EINVAL): "it is not a mount point, or it is locked by the outer namespace",
    ("sethostname", errno.EPERM): (
        "the name belongs to a uts namespace of another user namespace: unshare 'uts' first"
    ),
    ("mknod", errno.EPERM): "device nodes cannot be made inside a user namespace",
    ("setresuid", errno.EINVAL): "this id has no mapping in the user namespace: set uid_map first",
    ("setresgid", errno.EINVAL): "this id has no mapping in the user namespace: set gid_map first",
    ("setgroups", errno.EPERM): "groups are frozen: /proc/self/setgroups says deny",
    ("seccomp", errno.EACCES): "set no_new_privs first, or hold CAP_SYS_ADMIN",
    ("fork+execve", errno.ENOENT): (
        "the program, or the interpreter or loader it needs, is not inside this root"
    ),
    ("fork+execve", errno.ENOMEM): (
        "pid 1 of this pid namespace has ended: nothing can be started in it any more"
    ),
    ("fork+execve", errno.EAGAIN): "the box's limit of processes is reached",
    ("fork", errno.EAGAIN): "the box's limit of processes is reached",
    ("ioctl", errno.EPERM): "the network namespace is not this box's own: unshare 'net' first",
}


def explain(operation: str, call: str, number: int, detail: str) -> tuple[str, str]:
    """A sentence and a hint for a primitive that failed."""
    reason = os.strerror(number)
    if number == errno.ENOSYS and not call:
        return f"a box cannot do {operation}", ""
    if number == errno.ENOSPC and call == "unshare":
        reason = "no more namespaces of this kind are allowed"
    if call == "fork+execve" and number == errno.ENOENT:
        return f'exec: "{detail}": no such file or directory', _HINTS[(call, number)]
    return f"{call or operation}({detail}): {reason}", _HINTS.get((call, number), "")
