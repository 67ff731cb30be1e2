"""A container's stdio over a websocket (RFC 6455)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    from labkit.daemon.docker_api.detach import DetachKeys
    from labkit.host.engine.sessions import Attachment, Reader

__all__ = ["carry"]

_CHUNK = 1 << 16
_HEADER = 8


async def carry(
    request: web.Request, session: Attachment, keys: DetachKeys | None
) -> web.WebSocketResponse:
    """Answer the handshake and carry bytes both ways until either side ends."""
    socket = web.WebSocketResponse(max_msg_size=1 << 20)
    try:
        await socket.prepare(request)
        output = asyncio.ensure_future(_send(socket, session))
        typed = asyncio.ensure_future(_receive(socket, session, keys))
        try:
            await asyncio.wait({output, typed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (output, typed):
                task.cancel()
            await asyncio.gather(output, typed, return_exceptions=True)
    finally:
        await session.close()
    await socket.close()
    return socket


async def _send(socket: web.WebSocketResponse, session: Attachment) -> None:
    pieces = _raw(session.reader) if session.tty else _payloads(session.reader)
    async for data in pieces:
        await socket.send_bytes(data)


async def _raw(reader: Reader) -> AsyncIterator[bytes]:
    while data := await reader.read(_CHUNK):
        yield data


async def _payloads(reader: Reader) -> AsyncIterator[bytes]:
    """What Docker's frames hold, without their headers."""
    held = bytearray()
    while piece := await reader.read(_CHUNK):
        held += piece
        found = bytearray()
        while len(held) >= _HEADER:
            end = _HEADER + int.from_bytes(held[4:_HEADER], "big")
            if len(held) < end:
                break
            found += held[_HEADER:end]
            del held[:end]
        if found:
            yield bytes(found)


async def _receive(
    socket: web.WebSocketResponse, session: Attachment, keys: DetachKeys | None
) -> None:
    """Typed input until the client closes, or types its detach keys."""
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or session.writer is None:
            continue
        data: bytes = message.data.encode() if isinstance(message.data, str) else message.data
        if keys is not None:
            data, detached = keys.feed(data)
            if detached:
                return
        session.writer.write(data)
        await session.writer.drain()
