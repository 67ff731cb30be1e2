"""From Docker's limits to what is written into cgroup files, for both versions.

Pure functions: a list of settings and a list of sentences for what this machine cannot enforce.
v1 files: Documentation/admin-guide/cgroup-v1 of the kernel; v2: admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.cgroups.devices import parse_device_rule
from labkit.host.isolation.defaults import DEFAULT_DEVICE_RULES
from labkit.host.isolation.spec import ResourceLimits, ThrottleDevice

__all__ = [
    "DEFAULT_CPU_PERIOD_US",
    "NO_DEVICES",
    "Setting",
    "cpu_quota_and_period",
    "device_rules",
    "device_settings",
    "settings_v1",
    "settings_v2",
    "shares_to_weight",
    "swap_total",
    "unenforceable",
]

DEFAULT_CPU_PERIOD_US = 100_000
_DISCARDED = "or the cgroup is not mounted."


@dataclass(frozen=True, slots=True)
class Setting:
    """One write: `value` into `file` of the group's folder under `controller`.

    `missing` is the sentence to warn with when the file is not there or refuses; an empty one
    means that the refusal is an error.
    """

    controller: str
    file: str
    value: str
    missing: str = ""


def _sentence(what: str, consequence: str) -> str:
    return f"Your kernel does not support {what} {_DISCARDED} {consequence}"


NO_MEMORY = _sentence("memory limit capabilities", "Limitation discarded.")
NO_SWAP = _sentence("swap limit capabilities", "Memory limited without swap.")
NO_RESERVATION = _sentence("memory soft limit capabilities", "Limitation discarded.")
NO_OOM_DISABLE = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
OOM_DISABLE_UNLIMITED = (
    "OOM killer is disabled for the container, but no memory limit is set, "
    "this can result in the system running out of resources."
)
NO_SHARES = _sentence("CPU shares", "Shares discarded.")
NO_QUOTA = _sentence("CPU CFS scheduler", "Quota discarded.")
NO_CPUSET = _sentence("cpuset", "Cpuset discarded.")
NO_PIDS = _sentence("PIDs limit capabilities", "PIDs limit discarded.")
NO_DEVICES = "Devices cannot be restricted on this machine: it is not allowed here."
NO_WEIGHT = _sentence("Block I/O weight", "Weight discarded.")
_NO_THROTTLE = {
    "read_bps": _sentence("BPS Block I/O read limit", "Block I/O BPS read limit discarded."),
    "write_bps": _sentence("BPS Block I/O write limit", "Block I/O BPS write limit discarded."),
    "read_iops": _sentence("IOPS Block read limit", "Block I/O IOPS read limit discarded."),
    "write_iops": _sentence("IOPS Block write limit", "Block I/O IOPS write limit discarded."),
}
_THROTTLE_V2 = {
    "read_bps": "rbps",
    "write_bps": "wbps",
    "read_iops": "riops",
    "write_iops": "wiops",
}


def swap_total(limits: ResourceLimits) -> int | None:
    """Memory plus swap to allow: -1 unlimited, None untouched.

    Docker doubles the memory limit when nothing is said about swap.
    """
    if limits.memory_swap_bytes:
        return limits.memory_swap_bytes
    return limits.memory_bytes * 2 if limits.memory_bytes > 0 else None


def cpu_quota_and_period(limits: ResourceLimits) -> tuple[int, int] | None:
    """Microseconds of CPU per period; quota -1 lifts the limit; None says nothing."""
    if limits.nano_cpus:
        period = limits.cpu_period_us or DEFAULT_CPU_PERIOD_US
        return max(limits.nano_cpus * period // 1_000_000_000, 1000), period
    if limits.cpu_quota_us or limits.cpu_period_us:
        return limits.cpu_quota_us or -1, limits.cpu_period_us or DEFAULT_CPU_PERIOD_US
    return None


def shares_to_weight(shares: int) -> int:
    """cpu.weight (1 to 10000) for cpu.shares (2 to 262144), both defaults meeting at 1024 → 100.

    The curve that OCI runtimes agreed on in 2025: quadratic in log2(shares), through (2, 1),
    (1024, 100) and (262144, 10000). The older linear one gave the default container 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    power = math.log2(shares)
    return min(math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34)), 10_000)


def _block_weight_v2(weight: int) -> int:
    """Docker's 10 to 1000 stretched over io.weight's 1 to 10000."""
    return 1 + (weight - 10) * 9999 // 990


def _device_number(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidParameter(
            f'error setting device throttle: stat "{path}": {(error.strerror or "").lower()}'
        ) from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidParameter(f"error setting device throttle: {path} is not a block device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


DeviceNumber = Callable[[str], tuple[int, int]]


def _throttles(limits: ResourceLimits) -> Iterable[tuple[str, tuple[ThrottleDevice, ...]]]:
    yield "read_bps", limits.read_bps
    yield "write_bps", limits.write_bps
    yield "read_iops", limits.read_iops
    yield "write_iops", limits.write_iops


def device_rules(limits: ResourceLimits) -> tuple[str, ...] | None:
    """The allow list, or None when everything is allowed (`a *:* rwm`, privileged)."""
    if any(rule.split()[:1] == ["a"] for rule in limits.device_rules):
        return None
    return DEFAULT_DEVICE_RULES + tuple(limits.device_rules)


def device_settings(limits: ResourceLimits) -> list[Setting]:
    """Writes for the devices controller of v1. Raises InvalidParameter for a malformed rule."""
    rules = device_rules(limits)
    if rules is None:
        return []
    for rule in rules:
        parse_device_rule(rule)
    return [
        Setting("devices", "devices.deny", "a", NO_DEVICES),
        *(Setting("devices", "devices.allow", rule, NO_DEVICES) for rule in rules),
    ]


def settings_v1(
    limits: ResourceLimits, *, device_number: DeviceNumber = _device_number
) -> list[Setting]:
    """Writes for v1, in the order in which the kernel accepts them on a fresh group."""
    out: list[Setting] = []
    if limits.memory_bytes:
        out.append(Setting("memory", "memory.limit_in_bytes", str(limits.memory_bytes), NO_MEMORY))
    total = swap_total(limits)
    if total is not None:
        out.append(Setting("memory", "memory.memsw.limit_in_bytes", str(total), NO_SWAP))
    if limits.memory_reservation_bytes:
        value = str(limits.memory_reservation_bytes)
        out.append(Setting("memory", "memory.soft_limit_in_bytes", value, NO_RESERVATION))
    if limits.oom_kill_disable:
        out.append(Setting("memory", "memory.oom_control", "1", NO_OOM_DISABLE))
    bandwidth = cpu_quota_and_period(limits)
    if bandwidth is not None:
        out.append(Setting("cpu", "cpu.cfs_period_us", str(bandwidth[1]), NO_QUOTA))
        out.append(Setting("cpu", "cpu.cfs_quota_us", str(bandwidth[0]), NO_QUOTA))
    if limits.cpu_shares:
        out.append(Setting("cpu", "cpu.shares", str(limits.cpu_shares), NO_SHARES))
    out.extend(_cpuset(limits))
    if limits.pids:
        out.append(Setting("pids", "pids.max", _or_max(limits.pids), NO_PIDS))
    if limits.blkio_weight:
        out.append(Setting("blkio", "blkio.weight", str(limits.blkio_weight), NO_WEIGHT))
    for kind, devices in _throttles(limits):
        direction, unit = kind.split("_")
        for device in devices:
            major, minor = device_number(device.path)
            name = f"blkio.throttle.{direction}_{unit}_device"
            value = f"{major}:{minor} {device.rate}"
            out.append(Setting("blkio", name, value, _NO_THROTTLE[kind]))
    return out


def settings_v2(
    limits: ResourceLimits, *, device_number: DeviceNumber = _device_number
) -> list[Setting]:
    """Writes for v2. memory.swap.max counts swap alone, unlike Docker's and v1's sum."""
    out: list[Setting] = []
    if limits.memory_bytes:
        out.append(Setting("memory", "memory.max", _or_max(limits.memory_bytes), NO_MEMORY))
    total = swap_total(limits)
    if total is not None:
        swap = "max" if total < 0 else str(max(total - max(limits.memory_bytes, 0), 0))
        out.append(Setting("memory", "memory.swap.max", swap, NO_SWAP))
    if limits.memory_reservation_bytes:
        value = _or_max(limits.memory_reservation_bytes)
        out.append(Setting("memory", "memory.low", value, NO_RESERVATION))
    bandwidth = cpu_quota_and_period(limits)
    if bandwidth is not None:
        quota = "max" if bandwidth[0] < 0 else str(bandwidth[0])
        out.append(Setting("cpu", "cpu.max", f"{quota} {bandwidth[1]}", NO_QUOTA))
    if limits.cpu_shares:
        weight = str(shares_to_weight(limits.cpu_shares))
        out.append(Setting("cpu", "cpu.weight", weight, NO_SHARES))
    out.extend(_cpuset(limits))
    if limits.pids:
        out.append(Setting("pids", "pids.max", _or_max(limits.pids), NO_PIDS))
    if limits.blkio_weight:
        value = str(_block_weight_v2(limits.blkio_weight))
        out.append(Setting("io", "io.weight", value, NO_WEIGHT))
    for kind, devices in _throttles(limits):
        for device in devices:
            major, minor = device_number(device.path)
            value = f"{major}:{minor} {_THROTTLE_V2[kind]}={device.rate or 'max'}"
            out.append(Setting("io", "io.max", value, _NO_THROTTLE[kind]))
    return out


def _cpuset(limits: ResourceLimits) -> Iterable[Setting]:
    if limits.cpuset_cpus:
        yield Setting("cpuset", "cpuset.cpus", limits.cpuset_cpus, NO_CPUSET)
    if limits.cpuset_mems:
        yield Setting("cpuset", "cpuset.mems", limits.cpuset_mems, NO_CPUSET)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def unenforceable(
    limits: ResourceLimits,
    controllers: Collection[str],
    *,
    version: int | None,
    swap: bool = True,
    weight: bool = True,
) -> list[str]:
    """Docker's sentence for each limit asked for that these controllers cannot hold.

    `version` is None where there are no cgroups; `swap` and `weight` say whether the kernel
    accounts swap and has a proportional block scheduler.
    """
    checks: tuple[tuple[object, bool, str], ...] = (
        (limits.memory_bytes > 0, "memory" in controllers, NO_MEMORY),
        (limits.memory_swap_bytes > 0, "memory" in controllers and swap, NO_SWAP),
        (limits.memory_reservation_bytes, "memory" in controllers, NO_RESERVATION),
        (limits.oom_kill_disable, "memory" in controllers and version == 1, NO_OOM_DISABLE),
        (limits.cpu_shares, "cpu" in controllers, NO_SHARES),
        (cpu_quota_and_period(limits), "cpu" in controllers, NO_QUOTA),
        (limits.cpuset_cpus or limits.cpuset_mems, "cpuset" in controllers, NO_CPUSET),
        (limits.pids > 0, "pids" in controllers, NO_PIDS),
        (limits.blkio_weight, "io" in controllers and weight, NO_WEIGHT),
        *((d, "io" in controllers, _NO_THROTTLE[kind]) for kind, d in _throttles(limits)),
    )
    found = [sentence for asked, holds, sentence in checks if asked and not holds]
    if limits.oom_kill_disable and limits.memory_bytes <= 0 and NO_OOM_DISABLE not in found:
        found.append(OOM_DISABLE_UNLIMITED)
    return found
