"""Which control group hierarchies a machine offers, read from /proc/self/mountinfo (cgroups(7)).

Three arrangements exist: v1 (each controller mounted by itself), v2 (one tree) and hybrid (v1
controllers beside a v2 tree that has few or none). A controller lives in exactly one of them, so
a layout is a table from controller to the folder it hangs from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "CgroupKind",
    "Layout",
    "find_layout",
    "layout_below",
    "parse_mount_targets",
    "parse_mountinfo",
]

CgroupKind = Literal["v1", "v2", "hybrid", "none"]

_V1_CONTROLLERS = frozenset(
    [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
        "misc",
    ]
)
WANTED_V1 = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "devices", "freezer")
WANTED_V2 = ("memory", "cpu", "cpuset", "pids", "io")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Layout:
    """`v1` maps a controller to its mount point; `unified` is the v2 tree's, if there is one.

    `unified_controllers` are those the v2 tree's top offers. `own_v1` and `own_unified` are where
    this process is, as /proc/self/cgroup says, relative to the mount points.
    """

    v1: Mapping[str, Path]
    unified: Path | None
    unified_controllers: frozenset[str]
    own_unified: str = "/"

    @property
    def kind(self) -> CgroupKind:
        if self.v1:
            return "v1" if self.unified is None else "hybrid"
        return "none" if self.unified is None else "v2"

    @property
    def uses_unified(self) -> bool:
        """Whether limits go to the v2 tree: in a hybrid layout the v1 controllers are used."""
        return self.unified is not None and not self.v1

    @property
    def controllers(self) -> frozenset[str]:
        """Controllers that labkit can use, by their v2 names (`io` for blkio)."""
        if self.uses_unified:
            found = set(self.unified_controllers & set(WANTED_V2))
            found |= {"freezer", "devices"}  # part of the v2 core, and a BPF program
            return frozenset(found)
        return frozenset("io" if name == "blkio" else name for name in self.v1)


def parse_mountinfo(text: str) -> tuple[dict[str, Path], Path | None]:
    """v1 controllers with their mount points and the v2 mount point from mountinfo's text.

    The last mount wins where one hides another, except that a controller's first mount is kept:
    later ones are usually somebody's bind into a container.
    """
    v1: dict[str, Path] = {}
    unified: Path | None = None
    for line in text.splitlines():
        front, _, back = line.partition(" - ")
        fields, tail = front.split(" "), back.split(" ")
        if len(fields) < 5 or len(tail) < 3:
            continue
        where = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if tail[0] == "cgroup2" and unified is None:
            unified = where
        elif tail[0] == "cgroup":
            for option in tail[2].split(","):
                if option in _V1_CONTROLLERS:
                    v1.setdefault(option, where)
    return v1, unified


def parse_mount_targets(text: str) -> list[str]:
    """The mount points in mountinfo's text, in order."""
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            found.append(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
    return found


def _offered(unified: Path | None) -> frozenset[str]:
    if unified is None:
        return frozenset()
    try:
        return frozenset((unified / "cgroup.controllers").read_text().split())
    except OSError:
        return frozenset()


def _own_unified() -> str:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("0::"):
                    return line[3:].strip()
    except OSError:
        pass
    return "/"


def _make(v1: Mapping[str, Path], unified: Path | None) -> Layout:
    wanted = {name: v1[name] for name in WANTED_V1 if name in v1}
    return Layout(wanted, unified, _offered(unified), _own_unified())


def layout_below(root: Path) -> Layout:
    """The layout of a delegated tree mounted at `root` (LABKIT_CGROUP_ROOT).

    A folder with cgroup.controllers is a v2 tree; otherwise each sub-folder named after a
    controller is that v1 controller's.
    """
    if (root / "cgroup.controllers").exists():
        return _make({}, root)
    v1 = {name: root / name for name in WANTED_V1 if (root / name / "tasks").exists()}
    unified = root / "unified"
    return _make(v1, unified if (unified / "cgroup.procs").exists() else None)


def find_layout(root: Path | None = None) -> Layout:
    """This process's layout: below `root` or LABKIT_CGROUP_ROOT if given, else as mounted."""
    named = root or (Path(value) if (value := os.environ.get("LABKIT_CGROUP_ROOT")) else None)
    if named is not None:
        return layout_below(named)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            v1, unified = parse_mountinfo(file.read())
    except OSError:
        return Layout({}, None, frozenset())
    return _make(v1, unified)
