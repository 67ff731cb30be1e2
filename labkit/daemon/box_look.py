"""A box as the kernel shows it from outside: what checks grade and views draw.

Nothing is asked of the box itself, because what it says could be untrue; /proc is read instead,
and for its host name one thread of this process steps into its uts namespace and back.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Any

from labkit.daemon.lab_api.processes import Owner, describe_all, namespaces_of, read_proc

if TYPE_CHECKING:
    from labkit.daemon.boxes import Box
    from labkit.host.isolation.cgroups import CgroupDriver

__all__ = ["look"]

_CLONE_NEWUTS = 0x04000000
_MOUNTS_MAX = 200


def look(box: Box, groups: CgroupDriver, host_namespaces: dict[str, int]) -> dict[str, Any]:
    """Namespaces, root, mounts, limits and processes of `box`. Blocking: /proc is read."""
    pid = box.pid
    namespaces = namespaces_of(pid)
    processes, _ = describe_all({pid: Owner("box", box.id, box.name)})
    mounts = _mounts(pid)
    root = _link(pid, "root")
    own_mounts = namespaces.get("mnt") != host_namespaces.get("mnt")
    return {
        "namespaces": namespaces,
        "host_namespaces": host_namespaces,
        "hostname": _hostname(pid),
        "root": root,
        # chroot(2) moves one process's root and leaves the namespace's root mount where it was;
        # after pivot_root(2) the root mount itself is another one, and "/" is its top.
        "pivoted": own_mounts and root == "/" and _root_mount(pid) != _root_mount("self"),
        "mounts": mounts,
        "interfaces": _interfaces(pid),
        "cgroup": _group(box, groups),
        "uid_map": _map(pid, "uid_map"),
        "gid_map": _map(pid, "gid_map"),
        "processes": processes,
    }


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def _mounts(pid: int) -> list[str]:
    found = [line.split()[1] for line in read_proc(pid, "mounts").splitlines()]
    return found[:_MOUNTS_MAX]


def _root_mount(pid: int | str) -> tuple[str, str]:
    """Device and folder of the mount at "/" (proc_pid_mountinfo(5), fields 3 and 4)."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            rows = [line.split() for line in file]
    except OSError:
        return "", ""
    last = [row for row in rows if len(row) > 4 and row[4] == "/"]
    return (last[-1][2], last[-1][3]) if last else ("", "")


def _interfaces(pid: int) -> list[str]:
    lines = read_proc(pid, "net/dev").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def _map(pid: int, name: str) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in read_proc(pid, name).splitlines()]


def _group(box: Box, groups: CgroupDriver) -> dict[str, int]:
    if not box.has_group:
        return {"memory_limit_bytes": 0, "memory_failcnt": 0, "oom_kills": 0, "pids_limit": 0}
    stats = groups.open(box.id).stats()
    return {
        "memory_limit_bytes": stats.memory_limit_bytes,
        "memory_usage_bytes": stats.memory_usage_bytes,
        "memory_failcnt": stats.memory_failcnt,
        "oom_kills": stats.oom_kills,
        "pids_limit": stats.pids_limit,
        "pids_current": stats.pids_current,
    }


def _hostname(pid: int) -> str:
    """The host name in the uts namespace of `pid`, "" when it may not be entered.

    setns(2) into a uts namespace changes the calling thread only, and that thread ends here.
    """
    found: list[str] = []

    def visit() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWUTS) == 0:
                found.append(os.uname().nodename)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=visit, name="uts-visitor")
    thread.start()
    thread.join()
    return found[0] if found else ""
