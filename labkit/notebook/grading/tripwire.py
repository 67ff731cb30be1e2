"""Noticing what a notebook reaches for while it is graded.

The sandbox is what keeps a submission away from other people's files and from the network;
this only says so in words. Python's audit events (PEP 578) cannot be switched off from Python,
but C code does not raise them: a quiet run proves nothing, a report is worth a look.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["watch"]

_ORDINARY = (
    "/usr/",
    "/lib",
    "/bin/",
    "/sbin/",
    "/etc/",
    "/dev/",
    "/proc/",
    "/sys/",
    "/run/labkit",
)
_TRACING = frozenset({"ptrace", "process_vm_readv", "process_vm_writev"})
_MAX_REPORTS = 200
_MAX_DETAIL = 300


class _Watcher:
    """Reports each distinct thing once, up to a bound."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._seen: set[tuple[str, str]] = set()
        self._busy = False
        self._owner = os.getpid()
        labkit = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self._ordinary = (*_ORDINARY, sys.prefix, sys.base_prefix, labkit, os.getcwd())

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook (sys.addaudithook)."""
        # A forked child is silent: the channel's descriptor may be another file by then.
        if self._busy or event not in _READERS or os.getpid() != self._owner:
            return
        self._busy = True
        try:
            _READERS[event](self, arguments)
        except Exception:  # noqa: BLE001 - an observer must never disturb what it watches
            return
        finally:
            self._busy = False

    def tell(self, kind: str, detail: str) -> None:
        key = (kind, detail[:_MAX_DETAIL])
        if key not in self._seen and len(self._seen) < _MAX_REPORTS:
            self._seen.add(key)
            self._report(*key)

    def is_ordinary(self, path: str) -> bool:
        return path.startswith(self._ordinary) and not path.endswith("shadow")


def watch(report: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """Call `report(kind, detail)` for what a graded notebook has no need of.

    Kinds: `path` (opened or listed outside its own folder and the system's), `glob`, `connect`,
    `kill`, `syscall` (tracing through ctypes), `command` (every one: the reader of the report
    decides). Each distinct one once.
    The answer takes further reports from whoever else sees something.
    """
    watcher = _Watcher(report)
    sys.addaudithook(watcher.hook)
    return watcher.tell


def _path(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    name = arguments[0] if arguments else None
    if isinstance(name, str | bytes | os.PathLike):
        path = os.path.abspath(os.fsdecode(name))
        if not watcher.is_ordinary(path):
            watcher.tell("path", path)


def _glob(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    pattern = os.path.abspath(str(arguments[0]))
    if not watcher.is_ordinary(pattern):
        watcher.tell("glob", pattern)


def _connect(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    address = arguments[1]
    if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
        watcher.tell("connect", f"{address[0]} port {address[1]}")


def _resolve(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    name = arguments[0]
    text = name if isinstance(name, str) else os.fsdecode(name or "")
    if text and text not in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):  # noqa: S104 - compared only
        watcher.tell("connect", text)


def _kill(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    number, signal_number = int(arguments[0]), int(arguments[1])
    if number in (-1, 1, os.getppid()) and signal_number:
        watcher.tell("kill", f"process {number} with signal {signal_number}")


def _command(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    parts: list[str] = []
    for one in arguments[:2]:
        if isinstance(one, str | bytes):
            parts.append(os.fsdecode(one))
        elif isinstance(one, list | tuple):
            parts += [os.fsdecode(x) for x in one if isinstance(x, str | bytes | os.PathLike)]
    watcher.tell("command", " ".join(parts))


def _symbol(watcher: _Watcher, arguments: tuple[Any, ...]) -> None:
    name = str(arguments[1])
    if name in _TRACING:
        watcher.tell("syscall", name)


_READERS: dict[str, Callable[[_Watcher, tuple[Any, ...]], None]] = {
    "open": _path,
    "os.listdir": _path,
    "os.scandir": _path,
    "glob.glob": _glob,
    "socket.connect": _connect,
    "socket.getaddrinfo": _resolve,
    "os.kill": _kill,
    "subprocess.Popen": _command,
    "os.system": _command,
    "os.exec": _command,
    "os.posix_spawn": _command,
    "ctypes.dlsym": _symbol,
}
