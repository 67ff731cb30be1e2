"""The daemon's side of the packets in native/protocol.h: one connection to one shim."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from labkit.base.errors import Unavailable

__all__ = ["Connection", "Kind", "Message", "connect"]

_HEADER = struct.Struct("=HHIiIqq")
_VERSION = 1
_PACKET_MAX = _HEADER.size + 1024


class Kind(IntEnum):
    """Requests below 64, events from there on."""

    HELLO = 1
    ATTACH = 2
    RELEASE = 3
    RESIZE = 4
    CLOSE_STDIN = 5
    WAIT_LOG = 6
    ACKNOWLEDGE = 7
    QUIT = 8
    HELD = 64
    STARTED = 65
    FAILED = 66
    EXITED = 67


@dataclass(frozen=True, slots=True)
class Message:
    """One packet. `fd` is a descriptor that came along (the receiver's to close), or -1."""

    kind: int
    serial: int
    status: int
    flags: int
    a: int
    b: int
    text: bytes = b""
    fd: int = -1


def connect(directory: Path) -> socket.socket:
    """A connection to the shim that listens in `directory`. Raises OSError when none does.

    The address goes through a descriptor, because the folder's path may be longer than a socket
    address holds.
    """
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            link.setblocking(False)
            link.connect(f"/proc/self/fd/{folder}/shim.sock")
        except BaseException:
            link.close()
            raise
        return link
    finally:
        os.close(folder)


class Connection:
    """Requests with replies, and events, over one packet socket on the running loop.

    `on_event` gets every event, `on_close` is called once when the shim is gone.
    """

    def __init__(
        self,
        link: socket.socket,
        on_event: Callable[[Message], None],
        on_close: Callable[[], None],
    ) -> None:
        link.setblocking(False)
        self._link = link
        self._on_event = on_event
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._open = True
        self._loop.add_reader(link.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        return self._open

    def _readable(self) -> None:
        for _ in range(16):
            if not self._open:
                return
            try:
                data, ancillary, _, _ = self._link.recvmsg(
                    _PACKET_MAX, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if len(data) < _HEADER.size:
                self.close()
                self._on_close()
                return
            self._take(data, _descriptor(ancillary))

    def _take(self, data: bytes, fd: int) -> None:
        version, kind, serial, status, flags, a, b = _HEADER.unpack_from(data)
        if version != _VERSION:
            if fd >= 0:
                os.close(fd)
            return
        message = Message(kind, serial, status, flags, a, b, data[_HEADER.size :], fd)
        if serial == 0:
            self._on_event(message)
            return
        waiter = self._waiting.pop(serial, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(message)
        elif fd >= 0:
            os.close(fd)

    def tell(self, kind: Kind, a: int = 0, b: int = 0) -> None:
        """A request without a reply; does nothing when the shim is gone."""
        if self._open:
            with contextlib.suppress(OSError):
                self._link.send(_HEADER.pack(_VERSION, kind, 0, 0, 0, a, b))

    async def ask(self, kind: Kind, a: int = 0, b: int = 0, fd: int = -1) -> Message:
        """A request and its reply. Raises Unavailable when the shim is gone."""
        if not self._open:
            raise Unavailable("the container's shim is gone")
        self._serial = self._serial % 0xFFFFFFFF + 1
        serial = self._serial
        waiter: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[serial] = waiter
        packet = _HEADER.pack(_VERSION, kind, serial, 0, 0, a, b)
        ancillary = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        )
        try:
            while True:
                try:
                    self._link.sendmsg([packet], ancillary)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)
            return await waiter
        except OSError as error:
            raise Unavailable(f"the container's shim is gone: {error.strerror}") from error
        finally:
            self._waiting.pop(serial, None)

    def close(self) -> None:
        """Let go of the shim; it lives on. Whoever waits for a reply gets Unavailable."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._link.fileno())
        self._link.close()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Unavailable("the container's shim is gone"))
        self._waiting.clear()


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    found = -1
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= 4:
            found = int(array.array("i", data[:4])[0])
    return found
