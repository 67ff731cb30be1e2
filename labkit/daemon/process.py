"""The daemon as a process of the machine: alone in its lab, detached when asked, findable.

The lock is an flock(2) on a file in LABKIT_HOME: it guards the state, it dies with the process
however that ends, and its content says who holds it. The pid file in LABKIT_RUN says the same to
programs that only look.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

from labkit.base.errors import LabkitError, SystemFailure
from labkit.base.paths import LabPaths
from labkit.daemon.sockets import is_answered

__all__ = [
    "AlreadyRunning",
    "Report",
    "detach",
    "forget",
    "process_start_ticks",
    "take_lock",
    "write_pid",
]


_LOCK_WAIT_S = 10.0
_LOCK_PAUSE_S = 0.02


class AlreadyRunning(LabkitError):
    """Another daemon serves this lab; its pid is in `pid` (0 when it has not written it yet)."""

    exit_code = 0

    def __init__(self, pid: int, home: Path) -> None:
        who = f"pid {pid}" if pid else "just starting"
        super().__init__(f"labkitd is already running for {home} ({who})")
        self.pid = pid


def process_start_ticks(pid: int) -> int:
    """When `pid` started, in clock ticks since boot (proc_pid_stat(5), field 22).

    A pid alone may be reused; a pid with its start time names one process for ever.
    Raises ProcessLookupError when there is no such process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError as error:
        raise ProcessLookupError(pid) from error
    return int(text.rpartition(")")[2].split()[19])


def take_lock(paths: LabPaths) -> int:
    """The descriptor that holds this lab's lock, for as long as it stays open.

    A daemon that is ending answers no more but holds the lock until its last byte is written: it
    is waited for. Raises AlreadyRunning when another daemon holds the lock and answers (or does
    not let go), SystemFailure when the lock cannot be made.
    """
    path = paths.home / "labkitd.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SystemFailure(f"cannot lock {path}: {error.strerror}") from error
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if is_answered(paths.docker_socket) or time.monotonic() > deadline:
                holder = os.pread(lock, 64, 0)
                os.close(lock)
                pid = int(holder) if holder.isdigit() else 0
                raise AlreadyRunning(pid, paths.home) from None
        time.sleep(_LOCK_PAUSE_S)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def write_pid(paths: LabPaths) -> None:
    """Say who runs: `{"pid", "start_ticks", "started_at"}`, written whole or not at all."""
    record = {
        "pid": os.getpid(),
        "start_ticks": process_start_ticks(os.getpid()),
        "started_at": time.time(),
    }
    fresh = paths.pid_file.with_name(f".{paths.pid_file.name}.new")
    fresh.write_text(json.dumps(record) + "\n")
    fresh.rename(paths.pid_file)


def forget(paths: LabPaths) -> None:
    """Remove what only means something while a daemon runs: its sockets and its pid file."""
    for path in (paths.docker_socket, paths.lab_socket, paths.pid_file):
        with contextlib.suppress(OSError):
            path.unlink()


class Report:
    """The detached daemon's one line to the process that started it."""

    def __init__(self, pipe: int | None) -> None:
        self._pipe = pipe

    def __call__(self, code: int, text: str = "") -> None:
        if self._pipe is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._pipe, json.dumps([code, text]).encode())
        os.close(self._pipe)
        self._pipe = None


def detach(*, wanted: bool) -> Report:
    """Leave the terminal and the caller; the parent exits with the first report's code.

    Returns a callable `report(code, text)`: 0 once the daemon listens, otherwise why not.
    Without `wanted` the process stays as it is and reports go nowhere.
    """
    if not wanted:
        return Report(None)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():  # still a few megabytes and one thread: nothing heavy has been imported
        os.close(theirs)
        with open(ours, "rb") as reader:
            said = reader.read()
        code, text = json.loads(said) if said else (1, "labkitd died while starting")
        if text:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        os._exit(code)
    os.close(ours)
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    return Report(theirs)
