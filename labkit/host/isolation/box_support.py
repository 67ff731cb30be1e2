"""What boxes need besides their channel: limits, fuses, and the record of what is done for them."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import time
from collections.abc import Sequence

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes, parse_cpus
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.cgroups.limits import unenforceable
from labkit.host.isolation.spec import ResourceLimits, Step

__all__ = ["clean_boxes", "fuse_limits", "how_it_ended", "limits_not_held", "own_limits", "timed"]

_FUSE_MEMORY_BYTES = 1 << 30
_FUSE_PIDS = 256


def fuse_limits() -> ResourceLimits:
    """What any box may use at most: a quarter of the machine's memory up to 1 GiB, and
    a number of processes that a fork bomb reaches before anybody notices."""
    memory = min(_FUSE_MEMORY_BYTES, _machine_memory_bytes() // 4)
    return ResourceLimits(memory_bytes=memory, pids=_FUSE_PIDS)


def own_limits(memory: str | int, pids: int, cpus: str | float) -> ResourceLimits:
    """Limits that a student chose, within the fuses."""
    fuse = fuse_limits()
    size = parse_bytes(memory) if isinstance(memory, str) and memory else int(memory or 0)
    if size < 0 or pids < 0:
        raise InvalidParameter("limits cannot be negative")
    return ResourceLimits(
        memory_bytes=min(size, fuse.memory_bytes) or fuse.memory_bytes,
        pids=min(int(pids), _FUSE_PIDS) or _FUSE_PIDS,
        nano_cpus=parse_cpus(str(cpus)) if cpus else 0,
    )


def limits_not_held(limits: ResourceLimits) -> list[str]:
    """A sentence for each limit, on a machine that offers no control groups at all."""
    return unenforceable(limits, (), version=None)


def _machine_memory_bytes() -> int:
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024
    return _FUSE_MEMORY_BYTES * 4


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """In words, why a box no longer answers."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    if process.returncode is None:
        return "it closed its channel"
    if process.returncode < 0:
        return f"killed by signal {-process.returncode}"
    return f"exit status {process.returncode}"


class timed:  # noqa: N801 - reads as a word in `with`
    """Records one step around what is done from outside, its errno included."""

    def __init__(self, steps: list[Step], name: str, call: str, detail: str) -> None:
        self._steps, self._words = steps, (name, call, detail)

    def __enter__(self) -> None:
        self._start = time.monotonic_ns()

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        number = 0
        if value is not None:
            number = (value.errno if isinstance(value, OSError) else None) or errno.EINVAL
        end = time.monotonic_ns()
        self._steps.append(Step(*self._words, self._start, end, "daemon", number))


def clean_boxes(driver: CgroupDriver, keep: Sequence[str] = ()) -> list[str]:
    """Remove the groups of boxes that an ended daemon left, except the ids in `keep`."""
    removed = []
    for name in driver.names():
        owner = name.removeprefix("box-").removesuffix(".own")
        if name.startswith("box-") and owner not in keep:
            driver.open(name).remove()
            removed.append(name)
    return removed
