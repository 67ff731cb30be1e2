"""Control groups at a given place in every hierarchy, rather than in a lab's own folder."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from labkit.base.errors import SystemFailure
from labkit.host.isolation.cgroups import Cgroup, devices
from labkit.host.isolation.cgroups.driver import usable_unified_base
from labkit.host.isolation.cgroups.group import write_file
from labkit.host.isolation.cgroups.layout import WANTED_V2, Layout, find_layout
from labkit.host.isolation.cgroups.limits import device_rules, unenforceable
from labkit.host.isolation.spec import ResourceLimits

__all__ = ["group_at"]


def group_at(place: str, limits: ResourceLimits) -> Cgroup:
    """Make the group `place` (a path from each hierarchy's top; on a v2 tree that is somebody
    else's, from where this process may make groups) and set `limits`.

    Hierarchies in which nothing may be made are left out; a limit that cannot be enforced is one
    of the group's warnings. Raises InvalidParameter for a value the kernel refuses, SystemFailure
    when a folder cannot be made.
    """
    layout = find_layout()
    v1: dict[str, Path] = {}
    unified: Path | None = None
    given: frozenset[str] = frozenset()
    try:
        if layout.uses_unified:
            base = usable_unified_base(layout)
            if base is not None:
                given = _hand_down(layout, base, place)
                unified = base / place
                unified.mkdir(exist_ok=True)
        else:
            v1 = dict(_v1_folders(layout, place))
    except OSError as error:
        raise SystemFailure(f"cannot create cgroup {place}: {error.strerror}") from error
    group = Cgroup(place.rpartition("/")[2], v1, unified)
    try:
        group.warnings = _warnings(group, limits, given)
        group.warnings += [w for w in group.update(limits) if w not in group.warnings]
        _restrict_devices(group, limits)
    except BaseException:
        group.remove(timeout_s=0.2)
        raise
    return group


def _v1_folders(layout: Layout, place: str) -> Iterator[tuple[str, Path]]:
    for controller, mount in layout.v1.items():
        folder = mount / place
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            continue
        if controller == "cpuset":
            _fill_cpusets(mount, place)
        yield controller, folder


def _fill_cpusets(mount: Path, place: str) -> None:
    """A new v1 cpuset is empty, and nothing may join it: fill it in from above."""
    level = mount
    for part in Path(place).parts:
        level /= part
        for name in ("cpuset.cpus", "cpuset.mems"):
            with contextlib.suppress(OSError):
                if not (level / name).read_text().strip():
                    write_file(level / name, (level.parent / name).read_text().strip())


def _hand_down(layout: Layout, base: Path, place: str) -> frozenset[str]:
    """Enable controllers from the base down to the group's parent, as far as they are let
    through; one by one, because a single refusal spoils a whole write."""
    folder, given = base, set[str]()
    for part in Path(place).parts:
        given = set()
        if _holds_processes(folder):
            # Enabling one here would make what is below threaded: no process is born there.
            folder /= part
            folder.mkdir(exist_ok=True)
            continue
        for controller in layout.unified_controllers & set(WANTED_V2):
            with contextlib.suppress(OSError):
                write_file(folder / "cgroup.subtree_control", f"+{controller}")
                given.add(controller)
        folder /= part
        folder.mkdir(exist_ok=True)
    return frozenset(given)


def _holds_processes(folder: Path) -> bool:
    """Whether an inner folder has processes of its own (the machine's top may have both)."""
    if not (folder / "cgroup.type").exists():
        return False
    return bool((folder / "cgroup.procs").read_text().strip())


def _warnings(group: Cgroup, limits: ResourceLimits, given: frozenset[str]) -> list[str]:
    if group.v1:
        usable = frozenset("io" if name == "blkio" else name for name in group.v1)
        memory, block = group.v1.get("memory"), group.v1.get("blkio")
        swap = memory is not None and (memory / "memory.memsw.limit_in_bytes").exists()
        weight = block is not None and any(
            (block / name).exists() for name in ("blkio.bfq.weight", "blkio.weight")
        )
        return unenforceable(limits, usable, version=1, swap=swap, weight=weight)
    if group.unified is None:
        return unenforceable(limits, frozenset(), version=None, swap=False, weight=False)
    swap = (group.unified / "memory.swap.max").exists()
    weight = any((group.unified / name).exists() for name in ("io.weight", "io.bfq.weight"))
    return unenforceable(limits, given | {"freezer"}, version=2, swap=swap, weight=weight)


def _restrict_devices(group: Cgroup, limits: ResourceLimits) -> None:
    """Only what the rules name may be opened. An ordinary user can neither set this nor needs it:
    there no nodes can be made."""
    rules = device_rules(limits)
    if rules is None or not group.folders:
        return
    try:
        if "devices" in group.v1:
            write_file(group.v1["devices"] / "devices.deny", "a")
            for rule in rules:
                devices.parse_device_rule(rule)
                write_file(group.v1["devices"] / "devices.allow", rule)
        elif group.unified is not None:
            handle = os.open(group.unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                devices.attach_device_program(handle, rules)
            finally:
                os.close(handle)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            group.warnings.append(f"Devices cannot be restricted here: {error.strerror}.")
