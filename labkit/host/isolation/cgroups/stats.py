"""Raw counters of one control group, for `docker stats`, `docker inspect` and the gauges.

Fields keep the kernel's meaning in both versions; units are in their names. A controller that is
missing leaves its fields at zero and its name out of `controllers`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BlockCounter", "CgroupStats", "host_cpu_ns", "read_v1", "read_v2"]

_UNLIMITED_V1 = 1 << 62
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class BlockCounter:
    """One line of block-device accounting; `operation` is read, write, sync, async or total."""

    major: int
    minor: int
    operation: str
    value: int


@dataclass(frozen=True, slots=True)
class CgroupStats:
    """One reading. Limits are 0 where nothing limits."""

    version: int = 0
    controllers: frozenset[str] = frozenset()
    read_at_ns: int = 0
    """CLOCK_REALTIME at the reading."""
    memory_usage_bytes: int = 0
    memory_max_usage_bytes: int = 0
    memory_limit_bytes: int = 0
    memory_failcnt: int = 0
    """How often the limit was hit (v1 failcnt; v2 the `max` event)."""
    memory_inactive_file_bytes: int = 0
    """Page cache that `docker stats` subtracts from usage."""
    memory_detail: Mapping[str, int] = field(default_factory=dict)
    """memory.stat as it is."""
    oom_kills: int = 0
    cpu_total_ns: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    cpu_percpu_ns: tuple[int, ...] = ()
    """v1 only."""
    throttling_periods: int = 0
    throttled_periods: int = 0
    throttled_time_ns: int = 0
    pids_current: int = 0
    pids_limit: int = 0
    block_bytes: tuple[BlockCounter, ...] = ()
    block_operations: tuple[BlockCounter, ...] = ()


def _text(path: Path) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _pairs(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def _block_v1(path: Path) -> tuple[BlockCounter, ...]:
    """`8:0 Read 4096` lines; the final `Total 4096` has no device and is left out."""
    counters = []
    for line in _text(path).splitlines():
        fields = line.split()
        if len(fields) == 3 and ":" in fields[0]:
            major, minor = fields[0].split(":")
            counters.append(BlockCounter(int(major), int(minor), fields[1].lower(), int(fields[2])))
    return tuple(counters)


def _block_v2(path: Path) -> tuple[tuple[BlockCounter, ...], tuple[BlockCounter, ...]]:
    """`8:0 rbytes=1 wbytes=2 rios=3 wios=4 …` as (bytes, operations)."""
    size: list[BlockCounter] = []
    count: list[BlockCounter] = []
    for line in _text(path).splitlines():
        device, *fields = line.split()
        if ":" not in device:
            continue
        major, minor = (int(part) for part in device.split(":"))
        values = dict(part.split("=", 1) for part in fields if "=" in part)
        for key, operation, target in (
            ("rbytes", "read", size),
            ("wbytes", "write", size),
            ("rios", "read", count),
            ("wios", "write", count),
        ):
            if key in values:
                target.append(BlockCounter(major, minor, operation, int(values[key])))
    return tuple(size), tuple(count)


def read_v1(folders: Mapping[str, Path]) -> CgroupStats:
    """Counters from a group's folder under each v1 controller."""
    nowhere = Path("/nonexistent")
    memory = folders.get("memory", nowhere)
    account = folders.get("cpuacct", nowhere)
    pids = folders.get("pids", nowhere)
    block = folders.get("blkio", nowhere)
    detail = _pairs(memory / "memory.stat")
    limit = _number(memory / "memory.limit_in_bytes")
    ticks = _pairs(account / "cpuacct.stat")
    bandwidth = _pairs(folders.get("cpu", nowhere) / "cpu.stat")
    return CgroupStats(
        version=1,
        controllers=frozenset(folders),
        read_at_ns=time.time_ns(),
        memory_usage_bytes=_number(memory / "memory.usage_in_bytes"),
        memory_max_usage_bytes=_number(memory / "memory.max_usage_in_bytes"),
        memory_limit_bytes=0 if limit >= _UNLIMITED_V1 else limit,
        # With both limits equal the sum of memory and swap is charged, and refused, first.
        memory_failcnt=max(
            _number(memory / "memory.failcnt"), _number(memory / "memory.memsw.failcnt")
        ),
        memory_inactive_file_bytes=detail.get("total_inactive_file", 0),
        memory_detail=detail,
        oom_kills=_pairs(memory / "memory.oom_control").get("oom_kill", 0),
        cpu_total_ns=_number(account / "cpuacct.usage"),
        cpu_user_ns=ticks.get("user", 0) * _TICK_NS,
        cpu_system_ns=ticks.get("system", 0) * _TICK_NS,
        cpu_percpu_ns=tuple(int(n) for n in _text(account / "cpuacct.usage_percpu").split()),
        throttling_periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled_time_ns=bandwidth.get("throttled_time", 0),
        pids_current=_number(pids / "pids.current"),
        pids_limit=_number(pids / "pids.max"),
        block_bytes=_block_v1(block / "blkio.throttle.io_service_bytes_recursive")
        or _block_v1(block / "blkio.throttle.io_service_bytes"),
        block_operations=_block_v1(block / "blkio.throttle.io_serviced_recursive")
        or _block_v1(block / "blkio.throttle.io_serviced"),
    )


def read_v2(folder: Path) -> CgroupStats:
    """Counters from a group's folder in the v2 tree."""
    detail = _pairs(folder / "memory.stat")
    events = _pairs(folder / "memory.events")
    cpu = _pairs(folder / "cpu.stat")
    size, count = _block_v2(folder / "io.stat")
    return CgroupStats(
        version=2,
        controllers=frozenset(_text(folder / "cgroup.controllers").split()),
        read_at_ns=time.time_ns(),
        memory_usage_bytes=_number(folder / "memory.current"),
        memory_max_usage_bytes=_number(folder / "memory.peak"),
        memory_limit_bytes=_number(folder / "memory.max"),
        memory_failcnt=events.get("max", 0),
        memory_inactive_file_bytes=detail.get("inactive_file", 0),
        memory_detail=detail,
        oom_kills=events.get("oom_kill", 0),
        cpu_total_ns=cpu.get("usage_usec", 0) * 1000,
        cpu_user_ns=cpu.get("user_usec", 0) * 1000,
        cpu_system_ns=cpu.get("system_usec", 0) * 1000,
        throttling_periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_time_ns=cpu.get("throttled_usec", 0) * 1000,
        pids_current=_number(folder / "pids.current"),
        pids_limit=_number(folder / "pids.max"),
        block_bytes=size,
        block_operations=count,
    )


def host_cpu_ns() -> tuple[int, int]:
    """CPU time the whole machine spent since boot and its number of processors.

    `docker stats` divides a container's share by this: the sum of /proc/stat's first eight
    fields, as Docker adds them, in nanoseconds.
    """
    with open("/proc/stat", encoding="ascii") as file:
        first = file.readline().split()
        processors = sum(1 for line in file if line.startswith("cpu"))
    return sum(int(value) for value in first[1:9]) * _TICK_NS, processors
