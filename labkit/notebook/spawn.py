"""Starting the daemon on demand, once, detached from whoever asked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from labkit.base.errors import LabkitError, SystemFailure, Unavailable
from labkit.base.paths import LabPaths
from labkit.notebook.client import Client

__all__ = ["answers", "ensure", "last_error"]

_POLL_S = 0.01
_LOG_LINES = 12
_TAIL_BYTES = 8192


def answers(paths: LabPaths, *, timeout_s: float = 2.0) -> bool:
    """Whether the lab's engine answers `_ping` now."""
    if not paths.docker_socket.exists():
        return False
    client = Client(f"unix://{paths.docker_socket}", timeout_s=timeout_s)
    try:
        client.ping()
    except (LabkitError, OSError):
        return False
    finally:
        client.close()
    return True


def ensure(paths: LabPaths, wait_s: float, options: Sequence[str] = ()) -> LabPaths:
    """See `labkit.notebook.client.ensure_daemon`."""
    if answers(paths):
        return paths
    paths.prepare()
    deadline = time.monotonic() + wait_s
    with _only_one(paths.run / "starting.lock", deadline):
        if answers(paths):  # somebody else was faster while we waited for the lock
            return paths
        pid = _spawn(paths, options)
        ended = threading.Event()
        # Reaping in a thread: a daemon that ends while its first user lives leaves no zombie.
        threading.Thread(target=_reap, args=(pid, ended), name="labkit-reaper", daemon=True).start()
        while not answers(paths):
            if ended.is_set():
                raise _failed("the daemon ended while starting", paths)
            if time.monotonic() > deadline:
                raise _failed(f"the daemon did not answer within {wait_s:g} s", paths)
            time.sleep(_POLL_S)
    return paths


@contextlib.contextmanager
def _only_one(path: Path, deadline: float) -> Iterator[None]:
    """Hold an advisory lock on `path`; it is released by the kernel even when we are killed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SystemFailure(f"cannot create {path}: {error.strerror}") from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break  # the other starter hangs; it is better to look ourselves than to fail
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _spawn(paths: LabPaths, options: Sequence[str]) -> int:
    """Start `python -m labkit.daemon` in a session of its own; returns its pid.

    posix_spawn rather than fork: the caller may be a notebook kernel with many threads. Its
    descriptors are close-on-exec (PEP 446), so the daemon inherits the three below only.
    """
    environment = {
        **os.environ,
        "LABKIT_HOME": str(paths.home),
        "LABKIT_RUN": str(paths.run),
    }
    package_root = Path(__file__).resolve().parents[2]
    if package_root.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package_root), known]))
    # The daemon keeps its own log; what it prints before that works, or when Python itself
    # fails, is kept beside it.
    printed = str(_printed(paths))
    fresh = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.posix_spawn(
            sys.executable,
            # -P: a folder named labkit, or a json.py, where the notebook stands is not the daemon.
            [sys.executable, "-P", "-m", "labkit.daemon", *options],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, printed, fresh, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
    except OSError as error:
        raise SystemFailure(
            f"cannot start the daemon: {error.strerror}", hint="run labkit doctor"
        ) from error


def _printed(paths: LabPaths) -> Path:
    return paths.daemon_log.with_suffix(".start")


def _reap(pid: int, ended: threading.Event) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    ended.set()


def last_error(paths: LabPaths) -> str:
    """The last error in the daemon's log, without its time and place; empty when there is none."""
    try:
        lines = paths.daemon_log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    errors = [line.partition(" ERROR ")[2] for line in lines if " ERROR " in line]
    return errors[-1].partition(": ")[2] if errors else ""


def _failed(what: str, paths: LabPaths) -> Unavailable:
    lines = []
    for file in (_printed(paths), paths.daemon_log):
        with contextlib.suppress(OSError):
            lines = file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
        if lines:
            break
    lines = lines[-_LOG_LINES:]
    tail = "".join(f"\n  {line}" for line in lines)
    return Unavailable(
        f"cannot start the lab: {what}{':' + tail if tail else ''}",
        hint=f"labkit doctor says what is missing; the whole log is {paths.daemon_log}",
    )
