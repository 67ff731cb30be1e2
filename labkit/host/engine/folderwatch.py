"""Waking up when a file in a folder grows, without polling: inotify(7) on the event loop.

One inotify descriptor serves every follower of a host, because a user may have only 128 of them
(fs.inotify.max_user_instances). Watches are shared per folder and counted.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

from labkit.base.errors import SystemFailure

__all__ = ["FolderWatch"]

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_HEADER = struct.Struct("iIII")


class FolderWatch:
    """Calls back when something in a watched folder is written, created or renamed into it."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._listeners: dict[int, list[Callable[[], None]]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)

    def watch(self, folder: Path, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on each change below `folder`; the answer ends the watch."""
        if self._descriptor < 0:
            self._descriptor = self._check(
                self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC), "inotify_init1"
            )
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        number = self._check(
            self._libc.inotify_add_watch(
                self._descriptor,
                os.fsencode(folder),
                ctypes.c_uint32(_IN_MODIFY | _IN_MOVED_TO | _IN_CREATE),
            ),
            f"watch {folder}",
        )
        listeners = self._listeners.setdefault(number, [])
        listeners.append(listener)

        def unwatch() -> None:
            if listener in listeners:
                listeners.remove(listener)
            if not listeners and self._listeners.pop(number, None) is not None:
                self._libc.inotify_rm_watch(self._descriptor, number)

        return unwatch

    def close(self) -> None:
        """End every watch."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._listeners.clear()

    def _check(self, result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            # ENOSPC here is the limit on watches, not a full disk.
            reason = (
                "too many watches (fs.inotify.max_user_watches)"
                if number == errno.ENOSPC
                else os.strerror(number)
            )
            raise SystemFailure(f"cannot follow the log: {what}: {reason}")
        return result

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        offset, numbers = 0, set()
        while offset < len(data):
            number, _mask, _cookie, length = _HEADER.unpack_from(data, offset)
            numbers.add(number)
            offset += _HEADER.size + length
        for number in numbers:
            # -1 is an overflow of the queue: whoever listens looks for himself.
            targets = (
                [one for many in self._listeners.values() for one in many]
                if number < 0
                else self._listeners.get(number, [])
            )
            for listener in tuple(targets):
                listener()
