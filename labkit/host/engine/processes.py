"""Looking at a container's processes: top and stats."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, SystemFailure
from labkit.host.engine.container import Container
from labkit.host.engine.ports import ShimPort
from labkit.host.engine.times import NEVER, format_time
from labkit.host.isolation.cgroups.stats import CgroupStats, host_cpu_ns

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["stats", "top"]

Json = dict[str, Any]

_TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_DEFAULT_ARGS = ("", "-ef")
_PS_TIMEOUT_S = 10
_TICKS = os.sysconf("SC_CLK_TCK")
# ps would name its pid column as it is told, and the filter by pid would not find it.
_PID_RENAMED = re.compile(r"\b(pid\s*=\s*\S+|\S+\s*=\s*pid)\b", re.IGNORECASE)


def _running(container: Container) -> ShimPort:
    if container.state.status == "restarting":
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if container.shim is None or not container.state.is_live:
        raise Conflict(f"container {container.id} is not running")
    return container.shim


async def top(context: Context, reference: str, *, ps_args: str | None) -> Json:
    """GET /containers/X/top.

    The default columns are read from /proc; other arguments go to the machine's `ps`, whose lines
    are then filtered by process id.
    """
    container = context.find(reference)
    pids = _running(container).pids()
    arguments = (ps_args or "").strip()
    if arguments in _DEFAULT_ARGS:
        rows = await asyncio.to_thread(_table, pids)
        found = {"Titles": list(_TITLES), "Processes": rows}
    else:
        if _PID_RENAMED.search(arguments):
            raise InvalidParameter(f'specifying "{arguments}" is not allowed')
        found = _filtered(await _ps(arguments.split()), set(pids))
    await context.container_event(container, "top")
    return found


def _table(pids: Iterable[int]) -> list[list[str]]:
    uptime = float(_read("/proc/uptime").split()[0])
    boot_s = time.time() - uptime
    rows = []
    for pid in sorted(pids):
        row = _row(pid, boot_s, uptime)
        if row is not None:
            rows.append(row)
    return rows


def _row(pid: int, boot_s: float, uptime: float) -> list[str] | None:
    """One line of `ps -ef`, or None when the process has just gone."""
    try:
        text = _read(f"/proc/{pid}/stat")
        command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        uid = os.stat(f"/proc/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    seconds = (int(fields[11]) + int(fields[12])) // _TICKS
    start_s = int(fields[19]) / _TICKS
    lived = max(uptime - start_s, 0.01)
    usage = int(min(100 * (int(fields[11]) + int(fields[12])) / _TICKS / lived, 99))
    started = time.localtime(boot_s + start_s)
    same_day = time.strftime("%j%Y", started) == time.strftime("%j%Y")
    return [
        _user(uid),
        str(pid),
        fields[1],
        str(usage),
        time.strftime("%H:%M" if same_day else "%b%d", started),
        _terminal(int(fields[4])),
        f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        command or f"[{name}]",
    ]


def _user(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    # ps shows the number when the name does not fit its column.
    return name if len(name) <= 8 else str(uid)


def _terminal(device: int) -> str:
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 else "?"


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


async def _ps(arguments: list[str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "ps",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise SystemFailure(
            "error running ps: executable file not found", hint="install procps, or give no options"
        ) from None
    try:
        async with asyncio.timeout(_PS_TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SystemFailure("error running ps: it did not end") from None
    if process.returncode:
        reason = errors.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidParameter(f"error running ps: {reason}")
    return output.decode(errors="replace")


def _filtered(output: str, pids: set[int]) -> Json:
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        # The last column may contain blanks.
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
            rows.append(fields)
    return {"Titles": titles, "Processes": rows}


async def stats(context: Context, reference: str) -> Json:
    """GET /containers/X/stats, one sample. A container that does not run has empty counters."""
    container = context.find(reference)
    base: Json = {
        "id": container.id,
        "name": f"/{container.name}",
        "read": NEVER,
        "preread": NEVER,
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLKIO_KEYS),
        "cpu_stats": _empty_cpu(),
        "precpu_stats": _empty_cpu(),
        "memory_stats": {},
    }
    shim = container.shim
    if shim is None or not container.state.is_live:
        return base
    counters: CgroupStats = await asyncio.to_thread(shim.stats)
    base |= {
        "read": format_time(counters.read_at_ns or time.time_ns()),
        "pids_stats": {"current": counters.pids_current, "limit": counters.pids_limit or _NO_LIMIT},
        "blkio_stats": {**dict.fromkeys(_BLKIO_KEYS), **_blkio(counters)},
        "cpu_stats": _cpu(counters),
        "memory_stats": _memory(counters),
    }
    networks = await asyncio.to_thread(_networks, shim.init_pid)
    if networks and container.host.network_mode not in ("host", "none"):
        base["networks"] = networks
    return base


def _networks(pid: int) -> Json:
    """Counters of each interface in the container's namespace but lo (proc(5), /proc/net/dev)."""
    try:
        lines = _read(f"/proc/{pid}/net/dev").splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 16:
            keys = ("bytes", "packets", "errors", "dropped")
            found[name.strip()] = {
                **{f"rx_{key}": value for key, value in zip(keys, numbers, strict=False)},
                **{f"tx_{key}": value for key, value in zip(keys, numbers[8:], strict=False)},
            }
    return found


_NO_LIMIT = (1 << 64) - 1
_BLKIO_KEYS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


def _empty_cpu() -> Json:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _cpu(counters: CgroupStats) -> Json:
    total, cpus = host_cpu_ns()
    usage: Json = {
        "total_usage": counters.cpu_total_ns,
        "usage_in_kernelmode": counters.cpu_system_ns,
        "usage_in_usermode": counters.cpu_user_ns,
    }
    if counters.cpu_percpu_ns:
        usage["percpu_usage"] = list(counters.cpu_percpu_ns)
    return {
        "cpu_usage": usage,
        "system_cpu_usage": total,
        "online_cpus": cpus,
        "throttling_data": {
            "periods": counters.throttling_periods,
            "throttled_periods": counters.throttled_periods,
            "throttled_time": counters.throttled_time_ns,
        },
    }


def _memory(counters: CgroupStats) -> Json:
    limit = counters.memory_limit_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = dict(counters.memory_detail)
    detail.setdefault("inactive_file", counters.memory_inactive_file_bytes)
    found: Json = {"usage": counters.memory_usage_bytes, "stats": detail, "limit": limit}
    if counters.memory_max_usage_bytes:
        found["max_usage"] = counters.memory_max_usage_bytes
    if counters.memory_failcnt:
        found["failcnt"] = counters.memory_failcnt
    return found


def _blkio(counters: CgroupStats) -> Json:
    return {
        key: [
            {"major": row.major, "minor": row.minor, "op": row.operation, "value": row.value}
            for row in rows
        ]
        for key, rows in (
            ("io_service_bytes_recursive", counters.block_bytes),
            ("io_serviced_recursive", counters.block_operations),
        )
    }
