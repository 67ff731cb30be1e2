"""What holds a container, for the namespaces view: the kernel's word, and the counters' levels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, NotFound
from labkit.host.engine.specs import seccomp_policy
from labkit.host.isolation.capabilities import capability_sets
from labkit.host.isolation.confinement import confinement_of, syscall_verdict

if TYPE_CHECKING:
    from labkit.host.engine.container import Container, Definition
    from labkit.host.engine.context import Context
    from labkit.host.isolation.cgroups.stats import CgroupStats

__all__ = ["all_confinements", "confinement", "verdict"]

Json = dict[str, Any]


async def confinement(context: Context, reference: str) -> Json:
    """One running container's capabilities, seccomp, ids, closed paths and control group.

    Raises NotFound for an unknown container, Conflict for one that does not run.
    """
    container = context.find(reference)
    if container.shim is None or not container.state.is_live:
        raise Conflict(
            f"container {container.name} is not running: no process to look at",
            hint=f"docker start {container.name}",
        )
    return await asyncio.to_thread(_describe, container)


async def all_confinements(context: Context) -> dict[str, Json]:
    """The same for every running container, by id; one that ends meanwhile is left out."""

    def read() -> dict[str, Json]:
        found = {}
        for container in list(context.containers.values()):
            if container.shim is not None and container.state.is_live:
                try:
                    found[container.id] = _describe(container)
                except NotFound:
                    continue
        return found

    return await asyncio.to_thread(read)


def verdict(context: Context, reference: str, call: str, arguments: Sequence[int] = ()) -> Json:
    """What this container's seccomp filter does with the system call named `call`.

    Raises NotFound for an unknown container, InvalidParameter for an unknown call.
    """
    container = context.find(reference)
    profile = seccomp_policy(container.definition)
    host = container.definition.host
    held = capability_sets(
        host.cap_add or (), host.cap_drop or (), privileged=host.privileged
    ).bounding
    return {"container": container.name, **syscall_verdict(profile, held, call, arguments)}


def _describe(container: Container) -> Json:
    assert container.shim is not None
    found = confinement_of(container.shim.init_pid)
    counters: CgroupStats = container.shim.stats()
    return {
        "id": container.id,
        "name": container.name,
        "privileged": container.definition.host.privileged,
        **found,
        "cgroup": _levels(counters, container.definition),
    }


def _levels(counters: CgroupStats, definition: Definition) -> Json:
    """Used against allowed; 0 allowed means no limit, an absent key that nobody counts."""
    host = definition.host
    cpus = host.nano_cpus / 1e9
    if not cpus and host.cpu_quota > 0:
        cpus = host.cpu_quota / (host.cpu_period or 100_000)
    levels: Json = {"version": counters.version, "controllers": sorted(counters.controllers)}
    if "memory" in counters.controllers:
        levels["memory"] = {
            "used_bytes": counters.memory_usage_bytes,
            "limit_bytes": counters.memory_limit_bytes,
            "hits": counters.memory_failcnt,
            "oom_kills": counters.oom_kills,
        }
    if "pids" in counters.controllers:
        levels["pids"] = {"used": counters.pids_current, "limit": counters.pids_limit}
    if counters.controllers & {"cpu", "cpuacct"}:
        levels["cpu"] = {
            "used_ns": counters.cpu_total_ns,
            "read_at_ns": counters.read_at_ns,
            "limit_cpus": cpus,
            "periods": counters.throttling_periods,
            "throttled_periods": counters.throttled_periods,
        }
    return levels
