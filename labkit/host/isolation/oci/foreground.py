"""Waiting for a process that was started: its terminal, its signals, its exit code."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

from labkit.base.errors import SystemFailure

if TYPE_CHECKING:
    from labkit.host.isolation.oci.console import Terminal

__all__ = ["Waiter", "become_subreaper"]

_PR_SET_CHILD_SUBREAPER = 36
_NOT_FORWARDED = {
    signal.SIGCHLD,
    signal.SIGWINCH,
    signal.SIGURG,
    signal.SIGPIPE,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGCONT,
}


def become_subreaper() -> None:
    """From now on processes that lose their parent below us fall to us (prctl(2))."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemFailure("cannot become a sub-reaper")


class Waiter:
    """Catches signals from its making on, so that none is lost before there is a process."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        theirs.setblocking(False)
        self._theirs = theirs
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if (
                number == signal.SIGCHLD
                or number not in _NOT_FORWARDED
                or number == signal.SIGWINCH
            ):
                try:
                    signal.signal(number, _nothing)
                except (OSError, ValueError):
                    continue
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def wait(self, pid: int, terminal: Terminal | None = None) -> int:
        """Until `pid` has ended: pass signals on and copy the terminal. 128 + signal if killed."""
        handle = os.pidfd_open(pid)
        try:
            while True:
                watched = terminal.watched if terminal is not None else []
                sources: list[int] = [self._ours.fileno(), handle, *watched]
                ready = select.select(sources, [], [])[0]
                if terminal is not None:
                    for each in ready:
                        if each in watched:
                            terminal.copy(each)
                if self._ours.fileno() in ready:
                    self._signals(handle, terminal)
                if handle in ready:
                    return _reaped(pid)
        finally:
            os.close(handle)

    def _signals(self, handle: int, terminal: Terminal | None) -> None:
        for number in self._ours.recv(256):
            if number == signal.SIGWINCH and terminal is not None:
                terminal.resize()
            elif signal.Signals(number) not in _NOT_FORWARDED:
                try:
                    signal.pidfd_send_signal(handle, number)
                except ProcessLookupError:
                    return


def _nothing(number: int, frame: object) -> None:
    del number, frame


def _reaped(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
