"""One control group: joining, limiting, freezing, reading, killing and removing it.

The same class serves v1, v2 and hybrid machines: a group is a folder per hierarchy, and each
operation goes to the hierarchy that has the controller. Where there are no groups at all it falls
back on the process tree, so that `docker top` and `docker kill` still work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.base.errors import InvalidParameter, SystemFailure, Unsupported
from labkit.host.isolation.cgroups.limits import Setting, settings_v1, settings_v2
from labkit.host.isolation.cgroups.processes import descendants, kill_all
from labkit.host.isolation.cgroups.stats import CgroupStats, read_v1, read_v2
from labkit.host.isolation.spec import ResourceLimits

__all__ = ["OTHER_NAMES", "Cgroup", "JoinHandles", "write_file"]

OTHER_NAMES = {"blkio.weight": "blkio.bfq.weight", "io.weight": "io.bfq.weight"}
"""Files that the bfq scheduler calls differently."""

_REFUSED = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENODEV, errno.EOPNOTSUPP}


@dataclass
class JoinHandles:
    """What a new process needs to be born in the group; close it once the process exists.

    `tasks`: v1 files into each of which the single-threaded child writes `0` for itself (a parent
    writing the pid would wait for an RCU grace period). `directory`: the v2 folder for
    CLONE_INTO_CGROUP. All are close-on-exec.
    """

    tasks: tuple[int, ...] = ()
    directory: int | None = None

    def close(self) -> None:
        for handle in (*self.tasks, *(() if self.directory is None else (self.directory,))):
            os.close(handle)
        self.tasks, self.directory = (), None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_file(path: Path, value: str) -> None:
    """One write(2), because cgroup files take a whole value per call. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, value.encode())
    finally:
        os.close(handle)


class Cgroup:
    """A group that exists. Made by CgroupDriver; safe to make again over existing folders.

    `v1` maps controllers to this group's folders, `unified` is its folder in the v2 tree. Both
    empty means that the machine has no usable groups; then `leader` (the first process) is what
    pids() starts from.
    """

    def __init__(self, name: str, v1: Mapping[str, Path], unified: Path | None) -> None:
        self.name = name
        self.v1 = dict(v1)
        self.unified = unified
        self.warnings: list[str] = []
        self.leader: int | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Each folder once (v1 controllers may be mounted together)."""
        found = list(dict.fromkeys(self.v1.values()))
        return (*found, self.unified) if self.unified is not None else tuple(found)

    @property
    def exists(self) -> bool:
        return any(folder.is_dir() for folder in self.folders)

    def join(self) -> JoinHandles:
        """Open what a child needs to join; the caller closes it."""
        handles = JoinHandles()
        try:
            for folder in dict.fromkeys(self.v1.values()):
                handle = os.open(folder / "tasks", os.O_WRONLY | os.O_CLOEXEC)
                handles.tasks = (*handles.tasks, handle)
            if self.unified is not None:
                handles.directory = os.open(
                    self.unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )
        except OSError as error:
            handles.close()
            raise SystemFailure(f"cannot open cgroup {self.name}: {error.strerror}") from error
        return handles

    def add(self, pid: int) -> None:
        """Move a running process here; slower than being born here (see JoinHandles)."""
        try:
            for folder in self.folders:
                write_file(folder / "cgroup.procs", str(pid))
        except OSError as error:
            raise SystemFailure(
                f"cannot move process {pid} to cgroup {self.name}: {error.strerror}"
            ) from error
        if self.leader is None:
            self.leader = pid

    # Limits ------------------------------------------------------------------------------

    def update(self, limits: ResourceLimits) -> list[str]:
        """Set limits, live. Returns a sentence for each that cannot be enforced here.

        Raises InvalidParameter when the kernel refuses a value. Limits already set stay.
        """
        warnings: list[str] = []
        for setting in self.settings(limits):
            sentence = self.apply(setting)
            if sentence and sentence not in warnings:
                warnings.append(sentence)
        return warnings

    def settings(self, limits: ResourceLimits) -> list[Setting]:
        """The writes that `update` would do, in order."""
        if self.v1:
            return self._in_raising_order(settings_v1(limits))
        return settings_v2(limits) if self.unified is not None else []

    def _in_raising_order(self, settings: list[Setting]) -> list[Setting]:
        """v1 refuses a memory limit above memory+swap: raise the sum first, lower it last."""
        files = [setting.file for setting in settings]
        if "memory.limit_in_bytes" not in files or "memory.memsw.limit_in_bytes" not in files:
            return settings
        limit = files.index("memory.limit_in_bytes")
        total = files.index("memory.memsw.limit_in_bytes")
        try:
            now = int((self.v1["memory"] / "memory.memsw.limit_in_bytes").read_text())
        except (KeyError, OSError, ValueError):
            return settings
        wanted = int(settings[total].value)
        if 0 <= wanted <= now:
            return settings
        settings[limit], settings[total] = settings[total], settings[limit]
        return settings

    def apply(self, setting: Setting) -> str:
        """Do one write; the sentence to warn with if it cannot be enforced, else an empty one."""
        folder = self.v1.get(setting.controller, self.unified)
        if folder is None:
            return setting.missing
        name = setting.file
        if name in OTHER_NAMES and not (folder / name).exists():
            name = OTHER_NAMES[name]
        try:
            write_file(folder / name, setting.value)
        except OSError as error:
            if error.errno in _REFUSED and setting.missing:
                return setting.missing
            raise self.refusal(setting, error) from error
        return ""

    def refusal(self, setting: Setting, error: OSError) -> InvalidParameter:
        """The error for a value that the kernel does not take."""
        folder = self.v1.get(setting.controller, self.unified) or Path("/")
        if setting.controller == "cpuset":
            what = "CPUs" if setting.file.endswith("cpus") else "memory nodes"
            have = _first_text(folder.parent, f"{setting.file}.effective", setting.file)
            return InvalidParameter(
                f"Requested {what} are not available - requested {setting.value}, available: {have}"
            )
        if error.errno == errno.EBUSY and setting.controller == "memory":
            usage = self.stats().memory_usage_bytes
            return InvalidParameter(
                f"unable to set memory limit to {setting.value} (current usage: {usage})",
                hint="a limit cannot go below what is in use and cannot be reclaimed",
            )
        return InvalidParameter(
            f"cannot set {setting.file} of cgroup {self.name} to {setting.value!r}: "
            f"{(error.strerror or '').lower()}"
        )

    # Processes ---------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """Machine pids of everything in the group, nested groups included, ascending."""
        folder = self._membership()
        if folder is None:
            return descendants(self.leader) if self.leader is not None else []
        found: set[int] = set()
        for path, _, _ in os.walk(folder):
            with contextlib.suppress(OSError), open(f"{path}/cgroup.procs") as file:
                found.update(int(line) for line in file)
        return sorted(found - {0})

    def _membership(self) -> Path | None:
        if self.unified is not None:
            return self.unified
        for controller in ("pids", "freezer", "memory"):
            if controller in self.v1:
                return self.v1[controller]
        return next(iter(self.v1.values()), None)

    def kill(self, *, timeout_s: float = 5.0) -> bool:
        """SIGKILL everything in the group and wait; True when nothing is left."""
        if self.unified is not None:
            with contextlib.suppress(OSError):
                write_file(self.unified / "cgroup.kill", "1")
        deadline = time.monotonic() + timeout_s
        pause = 0.001
        while True:
            left = self.pids()
            if not left:
                return True
            kill_all(left, self.pids, signal.SIGKILL)
            if "freezer" in self.v1:  # a frozen v1 task does not die before it is thawed
                with contextlib.suppress(OSError):
                    write_file(self.v1["freezer"] / "freezer.state", "THAWED")
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def freeze(self, *, timeout_s: float = 5.0) -> None:
        """Stop every process where it is (`docker pause`); returns when all have stopped."""
        self._freezer(frozen=True, timeout_s=timeout_s)

    def thaw(self, *, timeout_s: float = 5.0) -> None:
        """Undo `freeze`."""
        self._freezer(frozen=False, timeout_s=timeout_s)

    def is_frozen(self) -> bool:
        if self.unified is not None:
            return "frozen 1" in _first_text(self.unified, "cgroup.events")
        if "freezer" in self.v1:
            return _first_text(self.v1["freezer"], "freezer.state") == "FROZEN"
        return False

    def _freezer(self, *, frozen: bool, timeout_s: float) -> None:
        if self.unified is not None:
            path, value = self.unified / "cgroup.freeze", "1" if frozen else "0"
        elif "freezer" in self.v1:
            path = self.v1["freezer"] / "freezer.state"
            value = "FROZEN" if frozen else "THAWED"
        else:
            raise Unsupported(
                "cannot pause: this machine offers no cgroup freezer",
                hint="`labkit doctor` says which cgroups are there",
            )
        deadline = time.monotonic() + timeout_s
        pause = 0.0005
        while True:
            try:
                # v1 may stay FREEZING when a task forks meanwhile: writing again continues.
                write_file(path, value)
            except OSError as error:
                raise SystemFailure(
                    f"cannot {'freeze' if frozen else 'thaw'} {self.name}: {error.strerror}"
                ) from error
            if self.is_frozen() == frozen:
                return
            if time.monotonic() > deadline:
                if frozen:
                    with contextlib.suppress(OSError):
                        write_file(path, "0" if self.unified is not None else "THAWED")
                raise SystemFailure(f"cgroup {self.name} did not {value.lower()} in {timeout_s} s")
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    # Reading -----------------------------------------------------------------------------

    def stats(self) -> CgroupStats:
        """The counters now; zeros where there are no groups or the group is gone."""
        if self.v1:
            return read_v1(self.v1)
        if self.unified is not None:
            return read_v2(self.unified)
        return CgroupStats(read_at_ns=time.time_ns())

    def oom_kills(self) -> int:
        """How many processes the kernel killed here for want of memory."""
        if "memory" in self.v1:
            text = _first_text(self.v1["memory"], "memory.oom_control")
        elif self.unified is not None:
            text = _first_text(self.unified, "memory.events")
        else:
            return 0
        for line in text.splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def read(self, file: str) -> str:
        """The text of one control file such as `memory.failcnt`; empty when it is not there."""
        controller = file.partition(".")[0]
        folder = self.v1.get(controller, self.unified or self._membership())
        return "" if folder is None else _first_text(folder, file)

    def write(self, file: str, value: str) -> None:
        """Write one control file by name. Raises OSError as the kernel answers."""
        controller = file.partition(".")[0]
        folder = self.v1.get(controller, self.unified or self._membership())
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, "this machine has no cgroups", file)
        if "/" in file:
            raise PermissionError(errno.EPERM, "not a file of this group", file)
        write_file(folder / file, value)

    # End ---------------------------------------------------------------------------------

    def remove(self, *, timeout_s: float = 5.0) -> bool:
        """Kill what is left and remove the folders; True when nothing remains.

        rmdir(2) answers EBUSY while a killed process is being reaped, so it is tried again with
        growing pauses until `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        pause = 0.0005
        while not self.remove_nowait():
            left = self.pids()
            if left:
                self.kill(timeout_s=max(deadline - time.monotonic(), 0.05))
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        return True

    def remove_nowait(self) -> bool:
        """Remove the folders if the kernel allows it this moment."""
        gone = True
        for folder in self.folders:
            gone = _remove_tree(folder) and gone
        return gone


def _first_text(folder: Path, *names: str) -> str:
    for name in names:
        with contextlib.suppress(OSError):
            return (folder / name).read_text().strip()
    return ""


def _remove_tree(folder: Path) -> bool:
    """Depth first, because a container may have made groups of its own inside."""
    for attempt in (0, 1):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError:
            if attempt:
                return False
            children: Sequence[os.DirEntry[str]] = ()
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                children = [e for e in entries if e.is_dir(follow_symlinks=False)]
            if not children:
                return False
            for child in children:
                _remove_tree(Path(child.path))
        else:
            return True
    return False
