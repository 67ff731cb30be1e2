"""The primitives a container is made of, for a notebook or a script of your own.

Each function is one system call, or one file of /proc or of a control group, on the process that
calls it; its docstring names the manual page. They raise OSError with the kernel's own errno.

Two things to know. A Jupyter kernel has threads: `unshare("user")` and `setns` into a user or
mount namespace are refused to it (EINVAL), so `labkit.Box` does these in a single-threaded helper
process for you. In a script that forks, they work here directly:

    import os
    from labkit import isolation

    if (child := os.fork()) == 0:
        isolation.unshare("uts")
        isolation.sethostname("box")
        os.execlp("hostname", "hostname")
    os.waitpid(child, 0)
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from labkit.base import syscalls
from labkit.base.errors import InvalidParameter
from labkit.host.isolation.capabilities import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    normalize_capability,
)
from labkit.host.isolation.confinement import confinement_of, syscall_verdict
from labkit.host.isolation.seccomp import load_profile

__all__ = [
    "ALL_CAPABILITIES",
    "DEFAULT_CAPABILITIES",
    "MOUNT_FLAGS",
    "NAMESPACES",
    "capabilities",
    "cgroups",
    "confinement",
    "drop_capabilities",
    "mount",
    "namespaces",
    "no_new_privileges",
    "pivot_root",
    "seccomp_verdict",
    "sethostname",
    "setns",
    "umount",
    "unshare",
]

NAMESPACES: dict[str, int] = {
    "mnt": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "net": syscalls.CLONE_NEWNET,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "user": syscalls.CLONE_NEWUSER,
}
"""The kinds of namespace and their clone flags (namespaces(7))."""

MOUNT_FLAGS: dict[str, int] = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "remount": syscalls.MS_REMOUNT,
    "bind": syscalls.MS_BIND,
    "rec": syscalls.MS_REC,
    "private": syscalls.MS_PRIVATE,
}
"""Words for the flags of mount(2)."""


def _flag(kinds: Iterable[str]) -> int:
    flags = 0
    for kind in kinds:
        if kind not in NAMESPACES:
            raise InvalidParameter(
                f"there is no namespace of the kind {kind!r}",
                hint=f"the kinds are {', '.join(NAMESPACES)}",
            )
        flags |= NAMESPACES[kind]
    return flags


def unshare(*kinds: str) -> None:
    """Leave shared namespaces for new ones of your own (unshare(2)).

    `pid` counts for the next child, not for the caller (pid_namespaces(7)). Needs CAP_SYS_ADMIN,
    except for `user`, which gives it inside (user_namespaces(7)).
    """
    syscalls.unshare(_flag(kinds))


def setns(pid: int, *kinds: str) -> None:
    """Enter namespaces of another process (setns(2)): what `nsenter` and `docker exec` do.

    The process is held by a pidfd, so that its number cannot come to mean another meanwhile
    (pidfd_open(2)). Raises ProcessLookupError when it has ended.
    """
    descriptor = os.pidfd_open(pid)
    try:
        syscalls.setns(descriptor, _flag(kinds))
    finally:
        os.close(descriptor)


def namespaces(pid: int | str = "self") -> dict[str, int]:
    """The inode number of each namespace of a process; equal numbers are the same namespace
    (proc_pid_ns(5))."""
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in NAMESPACES}


def sethostname(name: str) -> None:
    """Set the host name of the present UTS namespace (sethostname(2), uts_namespaces(7))."""
    socket.sethostname(name)


def mount(
    source: str, target: str, fstype: str = "", flags: Sequence[str] = (), data: str = ""
) -> None:
    """Attach a file system, or with the flag `bind` a folder, at `target` (mount(2)).

    `flags` are words of MOUNT_FLAGS; `data` is for the file system, such as
    `lowerdir=a,upperdir=b,workdir=c` for overlay.
    """
    bits = 0
    for flag in flags:
        if flag not in MOUNT_FLAGS:
            raise InvalidParameter(
                f"there is no mount flag {flag!r}", hint=f"flags are {', '.join(MOUNT_FLAGS)}"
            )
        bits |= MOUNT_FLAGS[flag]
    syscalls.mount(source, target, fstype, bits, data)


def umount(target: str, *, detach: bool = False) -> None:
    """Detach a mount; with `detach` also one in use, as soon as it is not (umount2(2))."""
    syscalls.umount(target, syscalls.MNT_DETACH if detach else 0)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make the mount `new_root` the root of the mount namespace and put the old one at `put_old`,
    a folder beneath it (pivot_root(2)). `chdir("/")` and `umount(…, detach=True)` follow."""
    syscalls.pivot_root(new_root, put_old)


def capabilities(pid: int | str = "self") -> dict[str, list[str]]:
    """The five capability sets of a process by name (capabilities(7), proc_pid_status(5))."""
    number = os.getpid() if pid == "self" else int(pid)
    return dict(confinement_of(number)["capabilities"])


def drop_capabilities(*names: str) -> None:
    """Take capabilities out of the bounding set: this process and its children can never gain
    them by execve again (prctl(2), PR_CAPBSET_DROP). Needs CAP_SETPCAP."""
    for name in names:
        syscalls.drop_bounding(ALL_CAPABILITIES.index(normalize_capability(name)))


def no_new_privileges() -> None:
    """From here on no execve gives more rights: set-user-id bits and file capabilities count for
    nothing (prctl(2), PR_SET_NO_NEW_PRIVS). It cannot be taken back."""
    syscalls.forbid_new_privileges()


def confinement(pid: int | str = "self") -> dict[str, Any]:
    """Everything that holds a process: capabilities, seccomp, ids and their maps, closed paths
    of /proc and /sys (proc_pid_status(5), proc_pid_uid_map(5), proc_pid_mountinfo(5))."""
    return confinement_of(os.getpid() if pid == "self" else int(pid))


def cgroups(pid: int | str = "self") -> dict[str, str]:
    """The control group of a process for each hierarchy; "" stands for cgroup v2 (cgroups(7))."""
    lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    fields = [line.split(":", 2) for line in lines]
    return {controllers: path for _, controllers, path in fields}


def seccomp_verdict(
    call: str,
    arguments: Sequence[int] = (),
    *,
    capabilities: Iterable[str] = DEFAULT_CAPABILITIES,
    profile: str | None = None,
) -> dict[str, Any]:
    """What a container's filter does with a system call (seccomp(2)), and why.

    `profile` is a path, "unconfined", or None for Docker's default policy. The filter is compiled
    and run; nothing is called.
    """
    held = [normalize_capability(name) for name in capabilities]
    return syscall_verdict(load_profile(profile), held, call, arguments)
