"""A box as /proc and its control group show it from outside, for checks and pictures."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from labkit.host.isolation.cgroups import Cgroup
from labkit.host.isolation.cgroups.layout import parse_mount_targets
from labkit.host.isolation.spec import NAMESPACE_KINDS, HostNamespaces

if TYPE_CHECKING:
    from labkit.host.isolation.box import BoxProcess

__all__ = ["counters", "describe", "namespaces_of"]


def namespaces_of(pid: int) -> dict[str, int]:
    """Inode of each namespace of a process by kind; those that cannot be seen are left out."""
    found: dict[str, int] = {}
    for kind in NAMESPACE_KINDS:
        with contextlib.suppress(OSError):
            found[kind] = os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    return found


def counters(group: Cgroup) -> dict[str, object]:
    """The figures of a control group that chapters look at; 0 is no limit."""
    stats = group.stats()
    return {
        "version": stats.version,
        "memory_limit_bytes": stats.memory_limit_bytes,
        "memory_usage_bytes": stats.memory_usage_bytes,
        "memory_failcnt": stats.memory_failcnt,
        "oom_kills": group.oom_kills(),
        "pids_limit": stats.pids_limit,
        "pids_current": stats.pids_current,
        "cpu_total_ns": stats.cpu_total_ns,
        "throttled_periods": stats.throttled_periods,
    }


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _interfaces(pid: int) -> list[str]:
    lines = _read(f"/proc/{pid}/net/dev").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def _processes(pids: list[int]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for pid in pids:
        words = _read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
        status = _read(f"/proc/{pid}/status")
        inner = next((x for x in status.splitlines() if x.startswith("NSpid:")), "")
        if status:
            numbers = [int(number) for number in inner.split()[1:]]
            found.append({"pid": pid, "pids": numbers, "args": words})
    return found


def describe(box: BoxProcess, host: HostNamespaces | None) -> dict[str, object]:
    """What GET /v1/boxes/ID shows; for a box that has ended, only its name and `alive` false."""
    pid = box.pid
    out: dict[str, object] = {"id": box.id, "pid": pid, "alive": box.alive}
    if not box.alive:
        return out
    root = ""
    with contextlib.suppress(OSError):
        root = os.readlink(f"/proc/{pid}/root")
    maps = {
        kind: [[int(n) for n in line.split()] for line in _read(f"/proc/{pid}/{kind}").splitlines()]
        for kind in ("uid_map", "gid_map")
    }
    group = box.group
    out |= {
        "namespaces": namespaces_of(pid),
        "host_namespaces": namespaces_of(host.anchor_pid) if host is not None else {},
        "hostname": box.hostname,
        "root": root,
        "pivoted": box.pivoted,
        "mounts": parse_mount_targets(_read(f"/proc/{pid}/mountinfo")),
        "interfaces": _interfaces(pid),
        "uid_map": maps["uid_map"],
        "gid_map": maps["gid_map"],
        "cgroup": counters(group) if group is not None and group.folders else {},
        "own_cgroup": box.has_cgroup,
        "processes": _processes(box.pids()),
    }
    return out
