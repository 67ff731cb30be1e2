"""What the lab says about itself: limits that hold, warnings, leftovers, and the doctor's lines."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from labkit.host.isolation.spec import ResourceLimits

if TYPE_CHECKING:
    from labkit.daemon.ground import Ground
    from labkit.daemon.lab import Lab
    from labkit.host.image.store import ImageStore
    from labkit.host.isolation.cgroups import CgroupDriver
    from labkit.host.isolation.probe import Finding

__all__ = ["doctor", "image_source", "leftovers", "limits", "warnings"]

_DISK_LOW_BYTES = 500_000_000
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
    missing = [
        f"{finding.name}: {finding.found}" + (f" ({finding.meaning})" if finding.meaning else "")
        for finding in ground.probe.reasons
        if not finding.ok
    ]
    if ground.host is not None:
        missing.append("containers have a loopback interface only: this lab has no networks yet")
    return missing


def image_source(store: ImageStore) -> dict[str, str]:
    """Where this lab's images came from, and where the next one would: what happened, not hopes."""
    from labkit.host.image.catalog import STAND_IN_LABEL

    others = [
        image
        for image in store.images()
        if STAND_IN_LABEL not in ((image.config.get("config") or {}).get("Labels") or {})
    ]
    if others:
        return {"source": "registry", "why": f"{len(others)} images here are no stand-ins"}
    return {
        "source": "stand-in",
        "why": "no registry has been reached: images are built from this machine's own programs",
    }


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


def _limit_line(limit: dict[str, Any]) -> dict[str, Any]:
    holds = limit["holds"]
    return {
        "name": f"{limit['name']} limits",
        "ok": holds,
        "found": "enforced" if holds else limit["why"],
        "meaning": "" if holds else "containers run without this limit",
        "fix": "" if holds else "see the chapter on limits for what to delegate",
    }


def doctor(lab: Lab) -> list[dict[str, Any]]:
    """GET /v1/doctor: the machine's findings, then the lab's own."""
    lines = [_line(finding) for finding in lab.ground.probe.reasons]
    lines += [_limit_line(limit) for limit in limits(lab.boxes.groups)]
    free = shutil.disk_usage(lab.paths.home).free
    lines.append(
        {
            "name": "disk",
            "ok": free >= _DISK_LOW_BYTES,
            "found": f"{free / 1e9:.1f} GB free in {lab.paths.home}",
            "meaning": "" if free >= _DISK_LOW_BYTES else "images may not fit",
            "fix": "" if free >= _DISK_LOW_BYTES else "docker system prune -a, or free some space",
        }
    )
    source = image_source(lab.images)
    lines.append(
        {
            "name": "images",
            "ok": True,
            "found": source["source"],
            "meaning": source["why"],
            "fix": "",
        }
    )
    writable = os.access(lab.paths.run, os.W_OK)
    lines.append(
        {
            "name": "sockets",
            "ok": writable,
            "found": str(lab.paths.docker_socket),
            "meaning": "" if writable else "new sockets cannot be made",
            "fix": "" if writable else f"chmod u+w {lab.paths.run}",
        }
    )
    return lines
