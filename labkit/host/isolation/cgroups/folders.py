"""Small things done with groups as folders, by CgroupDriver."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from labkit.host.isolation.cgroups.group import write_file

__all__ = ["inherit_cpuset", "initial_user_namespace", "move_processes", "rmdir"]


def rmdir(folder: Path) -> bool:
    """Whether the folder is gone now."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def inherit_cpuset(folder: Path, *, levels: int) -> None:
    """A new v1 cpuset is empty, and nothing may join it: fill it in from above."""
    chain: Iterable[Path] = reversed([folder, *folder.parents][:levels])
    for level in chain:
        for name in ("cpuset.cpus", "cpuset.mems"):
            with contextlib.suppress(OSError):
                if not (level / name).read_text().strip():
                    write_file(level / name, (level.parent / name).read_text().strip())


def move_processes(source: Path, leaf: Path) -> None:
    """Move every process of `source` into `leaf`, as long as new ones appear (but not for ever)."""
    with contextlib.suppress(OSError):
        leaf.mkdir(exist_ok=True)
    for _ in range(20):
        try:
            pids = (source / "cgroup.procs").read_text().split()
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(OSError):  # it has ended, or belongs to somebody else
                write_file(leaf / "cgroup.procs", pid)
        time.sleep(0.001)


def initial_user_namespace() -> bool:
    """Whether this process is in the machine's own user namespace (its map is the identity)."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except OSError:
        return True
