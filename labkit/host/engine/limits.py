"""A HostConfig's limits as the core's ResourceLimits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from labkit.host.engine.hostconfig import HostConfig, UpdateConfig
from labkit.host.isolation.spec import ResourceLimits, ThrottleDevice

__all__ = ["limits_of"]


def limits_of(host: HostConfig | UpdateConfig) -> ResourceLimits:
    """The limits a HostConfig or an update names."""
    base = ResourceLimits(
        memory_bytes=host.memory,
        memory_swap_bytes=host.memory_swap,
        memory_reservation_bytes=host.memory_reservation,
        nano_cpus=host.nano_cpus,
        cpu_quota_us=host.cpu_quota,
        cpu_period_us=host.cpu_period,
        cpu_shares=host.cpu_shares,
        cpuset_cpus=host.cpuset_cpus,
        cpuset_mems=host.cpuset_mems,
        pids=max(host.pids_limit or 0, 0),
        blkio_weight=host.blkio_weight,
    )
    if isinstance(host, UpdateConfig):
        return base

    def devices(rows: Sequence[object] | None) -> tuple[ThrottleDevice, ...]:
        return tuple(
            ThrottleDevice(str(getattr(row, "path", "")), int(getattr(row, "rate", 0)))
            for row in rows or ()
        )

    values = {name: getattr(base, name) for name in base.__slots__}
    values |= {
        "read_bps": devices(host.blkio_read_bps),
        "write_bps": devices(host.blkio_write_bps),
        "read_iops": devices(host.blkio_read_iops),
        "write_iops": devices(host.blkio_write_iops),
        "oom_kill_disable": bool(host.oom_kill_disable),
        "device_rules": _device_rules(host),
    }
    return ResourceLimits(**values)


def _device_rules(host: HostConfig) -> tuple[str, ...]:
    rules = list(host.device_cgroup_rules or ())
    if host.privileged:
        rules.append("a *:* rwm")
    for device in host.devices or ():
        with contextlib.suppress(OSError):
            found = os.stat(device.path_on_host)
            kind = "b" if (found.st_mode & 0o170000) == 0o060000 else "c"
            major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
            rules.append(f"{kind} {major}:{minor} {device.permissions or 'rwm'}")
    return tuple(rules)
