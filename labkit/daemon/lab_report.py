"""What the lab says about itself: limits that hold, warnings, leftovers, and the doctor's lines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.daemon.sockets import is_answered
from labkit.host.isolation.spec import ResourceLimits

if TYPE_CHECKING:
    from labkit.daemon.ground import Ground
    from labkit.daemon.lab import Lab
    from labkit.host.isolation.cgroups import CgroupDriver
    from labkit.host.isolation.probe import Finding

__all__ = ["doctor", "image_source", "leftovers", "limits", "warnings"]

_REGISTRY_WAIT_S = 0.3
# One limit of each kind, small enough to be valid everywhere; asking which would not hold changes
# nothing.
_SAMPLES = {
    "memory": ResourceLimits(memory_bytes=64 << 20),
    "swap": ResourceLimits(memory_bytes=64 << 20, memory_swap_bytes=64 << 20),
    "cpu": ResourceLimits(nano_cpus=500_000_000),
    "cpuset": ResourceLimits(cpuset_cpus="0"),
    "pids": ResourceLimits(pids=64),
    "io": ResourceLimits(blkio_weight=500),
}


def limits(groups: CgroupDriver) -> list[dict[str, Any]]:
    """For each kind of limit: does it hold on this machine, and if not, Docker's sentence."""
    found = []
    for name, sample in _SAMPLES.items():
        why = " ".join(groups.warnings_for(sample))
        found.append({"name": name, "holds": not why, "why": why})
    return found


def warnings(ground: Ground) -> list[str]:
    """What is missing here, as sentences."""
    return [
        f"{finding.name}: {finding.found}" + (f" ({finding.meaning})" if finding.meaning else "")
        for finding in ground.probe.reasons
        if not finding.ok
    ]


_asking: asyncio.Task[object] | None = None


async def image_source() -> dict[str, str]:
    """Where official images come from now: what really happened when a registry was asked.

    Nobody having asked yet, it is asked in the background; the answer is waited for only shortly,
    because a status must not take as long as an unreachable registry.
    """
    from labkit.host.image import sources

    global _asking
    found = sources.state()
    if found.source == "unknown":
        if _asking is None or _asking.done():
            _asking = asyncio.ensure_future(sources.probe_registry())
        await asyncio.wait({_asking}, timeout=_REGISTRY_WAIT_S)
        found = sources.state()
    return {"source": found.source, "why": found.why}


async def leftovers(lab: Lab) -> dict[str, int]:
    """Containers (running or not) and boxes that exist now: what an earlier run left behind."""
    containers = await lab.engine.container_list(all=True)
    return {"containers": len(containers), "boxes": len(lab.boxes.living())}


def _line(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "ok": finding.ok,
        "found": finding.found,
        "meaning": finding.meaning,
        "fix": finding.fix,
    }


def _limit_line(limit: dict[str, Any], ground: Ground) -> dict[str, Any]:
    holds = limit["holds"]
    return {
        "name": f"{limit['name']} limits",
        "ok": holds,
        "found": "enforced" if holds else limit["why"],
        "meaning": "" if holds else "containers run without this limit, and say so",
        "fix": "" if holds else _limit_fix(ground),
    }


def _limit_fix(ground: Ground) -> str:
    """What makes a limit hold that does not: it depends on who may write to the groups."""
    if ground.mode == "rootful":
        return "nothing to do here: this kernel or its boot options leave the controller out"
    if ground.probe.cgroup == "v2":
        # The daemon asks for a delegated scope of its own; what it lacks there, systemd withholds.
        return (
            "log in through systemd (not su); for all limits, as root: systemctl edit "
            "user@.service, [Service] Delegate=cpu cpuset io memory pids, then log in again"
        )
    return (
        "run the lab as root, or boot with systemd.unified_cgroup_hierarchy=1: "
        "cgroup v1 cannot be shared with ordinary users"
    )


async def doctor(lab: Lab) -> list[dict[str, Any]]:
    """GET /v1/doctor: the machine's findings, then the lab's own."""
    found: Iterable[Finding] = lab.ground.findings
    if not found:
        from labkit.host.isolation.doctor import examine

        found = await asyncio.to_thread(examine, lab.paths, lab.ground.probe)
    lines = [_line(finding) for finding in found]
    lines += [_limit_line(limit, lab.ground) for limit in limits(lab.boxes.groups)]
    source = await image_source()
    lines.append(
        {
            "name": "images",
            "ok": True,
            "found": source["source"],
            "meaning": source["why"],
            "fix": "",
        }
    )
    reachable = is_answered(lab.paths.docker_socket)
    lines.append(
        {
            "name": "sockets",
            "ok": reachable,
            "found": str(lab.paths.docker_socket),
            "meaning": "" if reachable else "clients cannot connect: the socket was removed",
            "fix": "" if reachable else "labkit down && labkit up",
        }
    )
    return lines
