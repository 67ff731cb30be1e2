"""A hijacked connection: HTTP ends, raw bytes begin, in both directions, on the same socket.

Docker's clients ask for `Upgrade: tcp` and then use the socket as a pipe (attach, exec). The end
of their input is a half-close: output must still reach them, so `eof_received` keeps the
transport open. A client that is gone altogether looks the same to read(2); the kernel tells the
difference only as EPOLLHUP (both directions shut, unix(7)), which is watched for separately.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from typing import Any, Protocol

from aiohttp import web

__all__ = ["Session", "Tunnel", "hijack", "relay"]

_CHUNK = 1 << 16
_LAST_WORDS_S = 2.0


class _Reader(Protocol):
    async def read(self, n: int = ..., /) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...


class Session(Protocol):
    """What a tunnel is connected to: the engine's Attachment, or a command on the lab host."""

    @property
    def reader(self) -> _Reader: ...
    @property
    def writer(self) -> _Writer | None: ...
    @property
    def tty(self) -> bool: ...
    async def close(self) -> None: ...


class _Taken(web.StreamResponse):
    """What a handler returns whose connection no longer speaks HTTP: nothing more is written."""

    async def prepare(self, request: web.BaseRequest) -> Any:  # noqa: ARG002 - aiohttp's signature
        return None

    async def write_eof(self, data: Any = b"") -> None:
        assert not data

    @property
    def keep_alive(self) -> bool:
        return False


class _TunnelProtocol(asyncio.StreamReaderProtocol):
    """Feeds a StreamReader and tells aiohttp's protocol, which counts connections, of the end."""

    def __init__(self, reader: asyncio.StreamReader, http: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._http = http
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        self._http.connection_lost(exc)


class Tunnel:
    """The client's end: `reader` its input, `writer` what it sees, `gone` once it has left."""

    def __init__(self, transport: asyncio.Transport, http: asyncio.BaseProtocol) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=_CHUNK, loop=loop)
        self._protocol = _TunnelProtocol(self.reader, http)
        self._protocol.connection_made(transport)
        transport.set_protocol(self._protocol)
        transport.resume_reading()
        self.writer = asyncio.StreamWriter(transport, self._protocol, self.reader, loop)
        self.response = _Taken()
        self.gone = self._protocol.lost
        self._loop = loop
        self._hangup: tuple[select.epoll, int] | None = None
        self._watch(transport)

    def _watch(self, transport: asyncio.Transport) -> None:
        """Ring when both directions are shut. The loop cannot say so itself: its poller drops the
        descriptor at the half-close, hence a second one on a copy of the descriptor."""
        copy = os.dup(transport.get_extra_info("socket").fileno())
        poller = select.epoll()
        poller.register(copy, 0)  # EPOLLHUP and EPOLLERR come unasked
        self._hangup = poller, copy
        self._loop.add_reader(poller.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        self._stop_watching()
        self._protocol.lost.set()  # what it sent before it left can still be read

    def _stop_watching(self) -> None:
        if self._hangup is not None:
            poller, copy = self._hangup
            self._hangup = None
            self._loop.remove_reader(poller.fileno())
            poller.close()
            os.close(copy)

    async def close(self) -> None:
        """Send what is buffered, then close. Never raises for a client that has gone."""
        self._stop_watching()
        if self.gone.is_set():
            self.writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            await self.writer.drain()
        self.writer.close()


def hijack(request: web.Request, content_type: str) -> Tunnel:
    """Answer 101 (or, without `Upgrade`, 200 and bytes until the end) and take the socket over.

    The request's body must have been read, and a client must await this answer before it sends
    its stream, as Docker's do: what comes earlier is taken for a next request. Raises
    ConnectionResetError when the client has gone.
    """
    http = request.protocol
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client closed the connection")
    if request.headers.get("Upgrade"):
        head = (
            f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n"
    http.keep_alive(False)
    transport.write(head.encode())
    return Tunnel(transport, http)


async def _copy_input(tunnel: Tunnel, writer: _Writer, keys: Any) -> None:
    """Client to process until the client's end of input, or its detach keys."""
    with contextlib.suppress(ConnectionError):
        while data := await tunnel.reader.read(_CHUNK):
            if keys is not None:
                data, detached = keys.feed(data)
                if data:
                    writer.write(data)
                if detached:
                    raise _DetachedError
            else:
                writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _copy_output(reader: _Reader, tunnel: Tunnel) -> None:
    """Process to client until the process's end of output, or the client's disappearance."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            tunnel.writer.write(data)
            try:
                await tunnel.writer.drain()
            except ConnectionError:
                tunnel.gone.set()
                return


class _DetachedError(Exception):
    """The client typed its detach keys."""


async def relay(tunnel: Tunnel, session: Session, keys: Any = None) -> bool:
    """Carry bytes both ways until the session's output ends, the client leaves, or it detaches.

    `keys` (a DetachKeys) looks at the input. Returns whether the client detached with its keys.
    Closes both ends and leaves no task behind, also when it is cancelled.
    """
    output = asyncio.ensure_future(_copy_output(session.reader, tunnel))
    gone = asyncio.ensure_future(tunnel.gone.wait())
    waiting: set[asyncio.Future[Any]] = {output, gone}
    copying: asyncio.Future[Any] | None = None
    if session.writer is not None:
        copying = asyncio.ensure_future(_copy_input(tunnel, session.writer, keys))
        waiting.add(copying)
    detached = False
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if copying in done:
                assert copying is not None
                detached = isinstance(copying.exception(), _DetachedError)
            if tunnel.gone.is_set() and copying in waiting:
                # Its last words and the end of its input; a process that does not read waits not.
                assert copying is not None
                await asyncio.wait({copying}, timeout=_LAST_WORDS_S)
            if output in done or gone in done or detached:
                return detached
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await session.close()
        await tunnel.close()
