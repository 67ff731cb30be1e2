"""The group of processes that one submission may fill: cgroup v1 or v2, when this machine lets us.

    labkit/grade-XXXX/N          everything of one submission, with the whole limits
    labkit/grade-XXXX/N/lab      the lab's daemon and its containers (delegated)
    labkit/grade-XXXX/N/shell    the student's cells

Limits sit above what the sandbox can write to.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.notebook.grading.exercise import Limits

__all__ = ["GroupSet", "SubmissionGroup", "usable_controllers"]

_ROOT = Path("/sys/fs/cgroup")
_WANTED = ("memory", "pids", "cpu", "freezer", "cpuacct", "cpuset", "devices", "blkio")
_LAB_SHARE_BYTES = 512 << 20
_CPU_PERIOD_US = 100_000


@dataclass(frozen=True)
class GroupSet:
    """Where groups can be made. `tops` are the v1 controllers' folders, or the one v2 folder."""

    version: str
    tops: dict[str, Path]
    name: str = field(default_factory=lambda: f"labkit/grade-{secrets.token_hex(4)}")

    @classmethod
    def find(cls) -> GroupSet:
        """What this process may use; without privileges that is nothing here."""
        if (_ROOT / "cgroup.controllers").is_file():
            offered = set((_ROOT / "cgroup.controllers").read_text().split())
            usable = os.access(_ROOT / "cgroup.subtree_control", os.W_OK)
            tops = {"cgroup2": _ROOT} if usable and {"memory", "pids"} <= offered else {}
            return cls("v2" if tops else "none", tops)
        tops = {
            name: _ROOT / name
            for name in _WANTED
            if (_ROOT / name / "tasks").is_file() and os.access(_ROOT / name, os.W_OK)
        }
        return cls("v1" if tops else "none", tops)

    @property
    def controllers(self) -> frozenset[str]:
        """memory, pids, cpu …: the limits that hold here."""
        if self.version == "v2":
            return frozenset((_ROOT / "cgroup.controllers").read_text().split())
        return frozenset(self.tops)

    def make(self, number: int, limits: Limits, owner: int | None) -> SubmissionGroup:
        """A fresh group for one submission; `owner` gets the lab's part of it."""
        group = SubmissionGroup(self, f"{self.name}/{number}")
        if self.version == "v2":
            self._enable(Path(group.path))
        for name, top in self.tops.items():
            folder = top
            for part in (*Path(group.path).parts, "lab", "../shell"):
                folder = Path(os.path.normpath(folder / part))
                folder.mkdir(exist_ok=True)
                if name == "cpuset":
                    _inherit_cpuset(folder)
        _limit(self, group, limits)
        if owner is not None:
            for top in self.tops.values():
                _delegate(top / group.path / "lab", owner)
        return group

    def close(self) -> None:
        """Remove the folders above the submissions' groups."""
        for top in self.tops.values():
            for folder in (top / self.name, (top / self.name).parent):
                with contextlib.suppress(OSError):  # another lab may still use the upper one
                    folder.rmdir()

    def _enable(self, path: Path) -> None:
        """v2: a controller exists in a group only when each one above hands it down."""
        chosen = " ".join(
            f"+{name}" for name in ("memory", "pids", "cpu") if name in self.controllers
        )
        folder = _ROOT
        for part in ("", *path.parts):
            folder = folder / part
            folder.mkdir(exist_ok=True)
            (folder / "cgroup.subtree_control").write_text(chosen)


@dataclass
class SubmissionGroup:
    """The groups of one submission. `path` is relative to each hierarchy."""

    groups: GroupSet
    path: str

    @property
    def join_lab(self) -> list[str]:
        return [str(folder / "lab" / self._file) for folder in self._folders()]

    @property
    def join_shell(self) -> list[str]:
        return [str(folder / "shell" / self._file) for folder in self._folders()]

    @property
    def mounts(self) -> list[list[str]]:
        """What the lab mounts on its /sys/fs/cgroup."""
        if self.groups.version == "v2":
            return [["cgroup2", "", ""]]
        return [["cgroup", name, name] for name in self.groups.tops]

    def events(self) -> dict[str, int]:
        """How often a limit struck: `oom` in the shell, `pids` refused to it."""
        found = {"oom": 0, "pids": 0}
        for kind, controller, name, key in (
            ("oom", "memory", "memory.oom_control", "oom_kill"),
            ("oom", "cgroup2", "memory.events", "oom_kill"),
            ("pids", "pids", "pids.events", "max"),
            ("pids", "cgroup2", "pids.events", "max"),
        ):
            top = self.groups.tops.get(controller)
            if top is not None:
                found[kind] += _counter(top / self.path / "shell" / name, key)
        return found

    def remove(self, *, wait_s: float = 5.0) -> list[str]:
        """Remove the groups once their processes are gone; what could not be removed."""
        left = []
        end = time.monotonic() + wait_s
        for folder in self._folders():
            for one in _deepest_first(folder):
                while True:
                    try:
                        one.rmdir()
                        break
                    except FileNotFoundError:
                        break
                    except OSError:
                        if time.monotonic() > end:
                            left.append(str(one))
                            break
                        time.sleep(0.01)
        return left

    @property
    def _file(self) -> str:
        return "cgroup.procs" if self.groups.version == "v2" else "tasks"

    def _folders(self) -> Iterator[Path]:
        for top in self.groups.tops.values():
            yield top / self.path


def usable_controllers() -> frozenset[str]:
    """Controllers whose limits this machine lets us set for submissions."""
    return GroupSet.find().controllers


def _limit(groups: GroupSet, group: SubmissionGroup, limits: Limits) -> None:
    whole_memory = limits.memory_bytes + _LAB_SHARE_BYTES
    table: list[tuple[str, str, str, str]] = [
        ("memory", "", "memory.limit_in_bytes", str(whole_memory)),
        ("memory", "shell", "memory.limit_in_bytes", str(limits.memory_bytes)),
        ("pids", "", "pids.max", str(limits.pids * 3)),
        ("pids", "shell", "pids.max", str(limits.pids)),
        ("cpu", "", "cpu.cfs_period_us", str(_CPU_PERIOD_US)),
        ("cpu", "", "cpu.cfs_quota_us", str(_CPU_PERIOD_US)),
        ("cgroup2", "", "memory.max", str(whole_memory)),
        ("cgroup2", "shell", "memory.max", str(limits.memory_bytes)),
        ("cgroup2", "", "memory.swap.max", "0"),
        ("cgroup2", "", "pids.max", str(limits.pids * 3)),
        ("cgroup2", "shell", "pids.max", str(limits.pids)),
        ("cgroup2", "", "cpu.max", f"{_CPU_PERIOD_US} {_CPU_PERIOD_US}"),
    ]
    for controller, part, name, value in table:
        top = groups.tops.get(controller)
        if top is not None:
            with contextlib.suppress(FileNotFoundError):  # swap accounting may be off
                (top / group.path / part / name).write_text(value)


def _delegate(folder: Path, owner: int) -> None:
    """Give a folder and what joining and dividing it takes, but not its limits."""
    os.chown(folder, owner, owner)
    for name in ("tasks", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        if (folder / name).exists():
            os.chown(folder / name, owner, owner)


def _inherit_cpuset(folder: Path) -> None:
    """v1: a new cpuset has no CPUs, and nothing can join it, until it is given some."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        (folder / name).write_text((folder.parent / name).read_text())


def _counter(path: Path, key: str) -> int:
    try:
        lines = path.read_text().split("\n")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), 0)


def _deepest_first(folder: Path) -> list[Path]:
    found = [Path(top) for top, _, _ in os.walk(folder)]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)
