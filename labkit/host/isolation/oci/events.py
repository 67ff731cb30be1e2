"""`labkit-oci events`: a container's counters and out-of-memory kills, in runc's JSON."""

from __future__ import annotations

import json
import re
import select
import sys
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter
from labkit.host.isolation.cgroups import Cgroup, CgroupStats
from labkit.host.isolation.oci.groups import group_of
from labkit.host.isolation.oci.records import STOPPED, Record

__all__ = ["follow", "statistics"]

_OOM_POLL_S = 0.5
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(text: str) -> float:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text or total <= 0:
        raise InvalidParameter("duration interval must be greater than 0")
    return total


def follow(record: Record, *, interval: str, once: bool) -> int:
    """Print lines until the container has ended. Raises Conflict when it does not run."""
    import os

    pause = _seconds(interval)
    if record.status() == STOPPED:
        raise Conflict(f"container with id {record.name} is not running")
    group = group_of(record.name, record.data.get("groups") or {})
    if once:
        _print(record, "stats", statistics(group.stats()))
        return 0
    handle = os.pidfd_open(record.pid)
    try:
        kills, waited = group.oom_kills(), 0.0
        while not select.select([handle], [], [], min(_OOM_POLL_S, pause))[0]:
            waited += min(_OOM_POLL_S, pause)
            kills = _tell_kills(record, group, kills)
            if waited >= pause:
                waited = 0.0
                _print(record, "stats", statistics(group.stats()))
        _tell_kills(record, group, kills)
    finally:
        os.close(handle)
    return 0


def _tell_kills(record: Record, group: Cgroup, before: int) -> int:
    now = group.oom_kills()
    for _ in range(now - before):
        _print(record, "oom", None)
    return max(now, before)


def _print(record: Record, kind: str, data: Any) -> None:
    line: dict[str, Any] = {"type": kind, "id": record.name}
    if data is not None:
        line["data"] = data
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def statistics(stats: CgroupStats) -> dict[str, Any]:
    """One reading in the shape of runc's events."""
    usage = {
        "limit": stats.memory_limit_bytes,
        "usage": stats.memory_usage_bytes,
        "max": stats.memory_max_usage_bytes,
        "failcnt": stats.memory_failcnt,
    }
    blocks = {
        "ioServiceBytesRecursive": stats.block_bytes,
        "ioServicedRecursive": stats.block_operations,
    }
    return {
        "cpu": {
            "usage": {
                "total": stats.cpu_total_ns,
                "percpu": list(stats.cpu_percpu_ns),
                "kernel": stats.cpu_system_ns,
                "user": stats.cpu_user_ns,
            },
            "throttling": {
                "periods": stats.throttling_periods,
                "throttledPeriods": stats.throttled_periods,
                "throttledTime": stats.throttled_time_ns,
            },
        },
        "memory": {"usage": usage, "raw": dict(stats.memory_detail)},
        "pids": {"current": stats.pids_current, "limit": stats.pids_limit},
        "blkio": {
            name: [
                {"major": c.major, "minor": c.minor, "op": c.operation.title(), "value": c.value}
                for c in counters
            ]
            for name, counters in blocks.items()
        },
    }
