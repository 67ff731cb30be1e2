"""Makes, finds and clears one lab's control groups: labkit/<instance>/<id> in each hierarchy."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.isolation.cgroups import devices
from labkit.host.isolation.cgroups.folders import (
    inherit_cpuset,
    initial_user_namespace,
    move_processes,
    rmdir,
)
from labkit.host.isolation.cgroups.group import OTHER_NAMES, Cgroup, write_file
from labkit.host.isolation.cgroups.layout import WANTED_V2, CgroupKind, Layout, find_layout
from labkit.host.isolation.cgroups.limits import (
    Setting,
    device_rules,
    device_settings,
    settings_v1,
    settings_v2,
    unenforceable,
)
from labkit.host.isolation.cgroups.order import GroupOrder, refused_sentences
from labkit.host.isolation.spec import ResourceLimits

if TYPE_CHECKING:
    from labkit.host.isolation.probe import Probe

__all__ = ["DAEMON_LEAF", "CgroupDriver", "usable_unified_base"]

_TOP = "labkit"
_ORDERS_MAX = 256
_AHEAD = "~"  # native/groups.c
DAEMON_LEAF = "labkit.daemon"
"""Where processes of a delegated v2 folder are moved: only leaves may hold processes."""


def usable_unified_base(layout: Layout) -> Path | None:
    """The v2 folder below which groups may be made: the tree's top, else where this process is."""
    if layout.unified is None:
        return None
    own = layout.unified / layout.own_unified.lstrip("/")
    if own.name == DAEMON_LEAF:
        own = own.parent
    for base in (layout.unified, own):
        if all(
            os.access(base / name, os.W_OK)
            for name in ("cgroup.procs", "cgroup.subtree_control", ".")
        ):
            return base
    return None


class CgroupDriver:
    """The groups of one lab (`instance`), on whatever this machine offers.

    `root` (or LABKIT_CGROUP_ROOT) names a delegated tree: a v2 folder, or one folder per v1
    controller. Without any usable hierarchy, groups exist in name only and every limit is a
    warning.
    """

    def __init__(
        self, instance: str, probe: Probe | None = None, *, root: Path | None = None
    ) -> None:
        del probe  # the layout is read afresh: delegation may have changed since the probe
        if "/" in instance or instance in ("", ".", ".."):
            raise InvalidParameter(f"invalid instance name {instance!r}")
        self.instance = instance
        self.layout = find_layout(root)
        self._v1: dict[str, Path] = {}
        self._unified: Path | None = None
        self._v2_controllers: frozenset[str] = frozenset()
        self._orders: dict[ResourceLimits, GroupOrder] = {}
        self._programs: dict[tuple[str, ...], int] = {}
        if self.layout.uses_unified:
            base = usable_unified_base(self.layout)
            if base is not None:
                self._unified = base / _TOP / instance
                self._v2_controllers = self._enable(base)
        else:
            for controller, mount in self.layout.v1.items():
                if os.access(mount, os.W_OK) or os.access(mount / _TOP / instance, os.W_OK):
                    self._v1[controller] = mount / _TOP / instance

    @property
    def kind(self) -> CgroupKind:
        """What is used, which may be less than what is mounted: `none` when nothing is writable."""
        if self._v1:
            return self.layout.kind
        return "v2" if self._unified is not None else "none"

    @property
    def controllers(self) -> frozenset[str]:
        """Usable controllers by their v2 names."""
        if self._v1:
            return frozenset("io" if name == "blkio" else name for name in self._v1)
        if self._unified is not None:
            return self._v2_controllers | {"freezer"}
        return frozenset()

    @cached_property
    def version(self) -> int:
        """1, 2, or 0 where no cgroup file system can be shown inside a container."""
        return 1 if self._v1 else 2 if self._unified is not None else 0

    @cached_property
    def hierarchies(self) -> tuple[str, ...]:
        """The names of the v1 mounts in use, such as `cpu,cpuacct`."""
        return tuple(sorted({base.parents[1].name for base in self._v1.values()}))

    @property
    def bases(self) -> tuple[Path, ...]:
        """The lab's own folders, below which every group is."""
        found = list(dict.fromkeys(self._v1.values()))
        return (*found, self._unified) if self._unified is not None else tuple(found)

    def _enable(self, base: Path) -> frozenset[str]:
        """Hand controllers down to our folder, one by one: a single refusal spoils a whole write.

        A delegated folder's processes move to a leaf first; only the machine's real top (which
        has no cgroup.type) may hold both processes and children with controllers. Strangers are
        not moved: in a terminal's scope or somebody's service nothing is enabled. The kernel would
        accept cpu and pids there, but make the group a threaded one, whose children take no
        processes (cgroups(7), thread mode).
        """
        with contextlib.suppress(OSError):
            (base / _TOP / self.instance).mkdir(parents=True, exist_ok=True)
        ours = base.name.startswith(f"{_TOP}-") or base == self.layout.unified
        if ours and (base / "cgroup.type").exists():
            move_processes(base, base / DAEMON_LEAF)
        if (base / "cgroup.type").exists() and (base / "cgroup.procs").read_text().strip():
            return frozenset()
        given: set[str] = set()
        for folder in (base, base / _TOP, base / _TOP / self.instance):
            given = set()
            for controller in self.layout.unified_controllers & set(WANTED_V2):
                try:
                    write_file(folder / "cgroup.subtree_control", f"+{controller}")
                except OSError:
                    continue
                given.add(controller)
        return frozenset(given)

    # Groups ------------------------------------------------------------------------------

    def _group(self, name: str) -> Cgroup:
        if "/" in name or name in ("", ".", ".."):
            raise InvalidParameter(f"invalid cgroup name {name!r}")
        unified = None if self._unified is None else self._unified / name
        return Cgroup(name, {key: base / name for key, base in self._v1.items()}, unified)

    def prepare(self) -> None:
        """Make the lab's own folders. Raises SystemFailure when that cannot be done."""
        try:
            for base in self.bases:
                base.mkdir(parents=True, exist_ok=True)
            if "cpuset" in self._v1:
                # A new v1 cpuset is empty, and nothing may join it; children are born like this.
                inherit_cpuset(self._v1["cpuset"], levels=2)
                write_file(self._v1["cpuset"] / "cgroup.clone_children", "1")
        except OSError as error:
            raise SystemFailure(
                f"cannot create cgroup {self.instance}: {error.filename}: {error.strerror}"
            ) from error

    def open_bases(self, stack: contextlib.ExitStack) -> list[int]:
        """Make and open the lab's own folders, in the order of `bases`; `stack` closes them."""
        self.prepare()
        self._discard_ahead()
        found = []
        for base in self.bases:
            found.append(os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, found[-1])
        return found

    def _discard_ahead(self) -> None:
        """Remove what killed shims had made ahead; a living one whose folder goes does without."""
        for name in self._all_names():
            if name.startswith(_AHEAD):
                self._group(name).remove_nowait()

    def order(self, name: str, limits: ResourceLimits | None = None) -> GroupOrder:
        """What to do for a new group with `limits`. Raises InvalidParameter for a bad value.

        Machines do not grow controllers, so what was worked out once for some limits is kept;
        block devices, which come and go, are looked up each time.
        """
        limits = limits or ResourceLimits()
        found = self._orders.get(limits)
        if found is None:
            found = self._work_out(limits)
            throttled = limits.read_bps or limits.write_bps or limits.read_iops or limits.write_iops
            if not throttled:
                if len(self._orders) >= _ORDERS_MAX:
                    self._orders.clear()
                self._orders[limits] = found
        return found.named(name)

    def entry(self, name: str) -> GroupOrder:
        """What to do to join a group that exists."""
        folders = tuple(range(len(self.bases)))
        return GroupOrder(name, folders, unified=self._unified is not None, make=False)

    def _work_out(self, limits: ResourceLimits) -> GroupOrder:
        self.prepare()
        warnings = self.warnings_for(limits)
        bases = self.bases
        rules = device_rules(limits)
        settings: list[Setting] = []
        program: tuple[str, ...] | None = None
        if self._v1:
            settings = settings_v1(limits)
            if "devices" in self._v1:
                settings += device_settings(limits)
            elif rules is not None:
                warnings.append("Devices cannot be restricted: no device cgroup is mounted.")
        elif self._unified is not None:
            settings, program = settings_v2(limits), rules
        writes: list[tuple[int, Setting]] = []
        for setting in settings:
            base = self._v1.get(setting.controller, self._unified)
            if base is None:
                if setting.missing not in warnings:
                    warnings.append(setting.missing)
            else:
                writes.append((bases.index(base), self._with_present_file(base, setting)))
        return GroupOrder(
            "",
            tuple(range(len(bases))),
            self._unified is not None,
            tuple(writes),
            program,
            tuple(warnings),
        )

    def _with_present_file(self, base: Path, setting: Setting) -> Setting:
        """Under the bfq scheduler the weight's file has another name."""
        other = OTHER_NAMES.get(setting.file)
        if other is None or (base / setting.file).exists() or not (base / other).exists():
            return setting
        return replace(setting, file=other)

    def device_program(self, order: GroupOrder) -> int | None:
        """The loaded v2 program of an order, kept open by this driver; None where none may be."""
        if order.device_rules is None:
            return None
        found = self._programs.get(order.device_rules)
        if found is None:
            try:
                found = devices.load_device_program(order.device_rules)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EACCES):
                    raise SystemFailure(f"cannot restrict devices: {error.strerror}") from error
                found = -1
            self._programs[order.device_rules] = found
        return found if found >= 0 else None

    def sentences(self, order: GroupOrder, lines: Iterable[str]) -> tuple[list[str], list[str]]:
        """A shim's warnings, translated: those about the group, and the rest as they are."""
        unprivileged = os.geteuid() != 0 or not initial_user_namespace()
        return refused_sentences(order, lines, unprivileged=unprivileged)

    def create(self, name: str, limits: ResourceLimits | None = None) -> Cgroup:
        """A group with `limits` set; `warnings` tells which could not be.

        Containers get theirs from the shim (`order`); this is for boxes and for moving processes.
        Raises InvalidParameter for a value the kernel refuses, SystemFailure when the folders
        cannot be made; nothing is left behind then.
        """
        group = self._group(name)
        order = self.order(name, limits)
        group.warnings = list(order.warnings)
        try:
            self.prepare()
            for folder in group.folders:
                folder.mkdir(exist_ok=True)
            refused = []
            for index, (_, setting) in enumerate(order.writes):
                if group.apply(setting):
                    refused.append(f"\x01{index} {errno.EACCES}")
            program = self.device_program(order)
            if program is not None and group.unified is not None:
                with group.join() as handles:
                    assert handles.directory is not None
                    devices.attach_loaded_program(handles.directory, program)
            found = self.sentences(order, refused)[0]
            group.warnings += [each for each in found if each not in group.warnings]
        except OSError as error:
            group.remove(timeout_s=0.2)
            raise SystemFailure(
                f"cannot create cgroup {name}: {error.filename}: {error.strerror}"
            ) from error
        except BaseException:
            group.remove(timeout_s=0.2)
            raise
        return group

    def open(self, name: str, *, leader: int | None = None) -> Cgroup:
        """A group made earlier, for example by the daemon before this one."""
        group = self._group(name)
        group.leader = leader
        return group

    def warnings_for(self, limits: ResourceLimits) -> list[str]:
        """Docker's sentence for every limit that will not hold here."""
        version = 1 if self._v1 else 2 if self._unified is not None else None
        if self._v1:
            memory = self._v1.get("memory", Path("/")).parent.parent
            swap = (memory / "memory.memsw.limit_in_bytes").exists()
            weight = not limits.blkio_weight or self._has_block_weight()
        else:
            base = self._unified or Path("/nonexistent")
            swap = "memory" in self._v2_controllers and (base / "memory.swap.max").exists()
            weight = (base / "io.weight").exists() or (base / "io.bfq.weight").exists()
        return unenforceable(limits, self.controllers, version=version, swap=swap, weight=weight)

    def _has_block_weight(self) -> bool:
        """Only groups have the file, a hierarchy's top does not: look into our own folder."""
        folder = self._v1.get("blkio")
        if folder is None:
            return False
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return any((folder / name).exists() for name in ("blkio.bfq.weight", "blkio.weight"))

    # All of a lab's groups ---------------------------------------------------------------

    def names(self) -> list[str]:
        """Names of the groups that exist in any hierarchy, without those made ahead (`~`)."""
        return [name for name in self._all_names() if not name.startswith(_AHEAD)]

    def _all_names(self) -> list[str]:
        found: set[str] = set()
        for base in self.bases:
            with contextlib.suppress(OSError), os.scandir(base) as entries:
                found.update(e.name for e in entries if e.is_dir(follow_symlinks=False))
        return sorted(found)

    def clean(self, keep: Collection[str] = (), *, timeout_s: float = 5.0) -> list[str]:
        """Kill and remove this lab's groups except those in `keep`; returns the removed names."""
        removed = [name for name in self._all_names() if name not in keep]
        for name in removed:
            self._group(name).remove(timeout_s=timeout_s)
        return removed

    def close(self, *, timeout_s: float = 2.0) -> bool:
        """Remove the lab's own folders if no group is left in them; True when they are gone.

        The kernel finishes off a removed group a moment later, and says EBUSY until then.
        """
        for program in self._programs.values():
            if program >= 0:
                os.close(program)
        self._programs.clear()
        deadline = time.monotonic() + timeout_s
        while True:
            self._discard_ahead()
            gone = [rmdir(base) for base in self.bases]
            if all(gone) or self.names() or time.monotonic() > deadline:
                break
            time.sleep(0.005)
        for base in self.bases:
            rmdir(base.parent)  # another lab may still use it
        return all(gone)
