"""Messages between members over stream sockets: unix(7) or tcp(7), one frame format.

A frame is its length in four bytes (network order) and that many bytes. Each member listens, and
keeps one connection of its own to every peer to send on. The first frame of a connection is the
caller's introduction, the first frame back says `welcome` or why not; after that frames flow one
way. What does not arrive is lost and nobody is told: the protocols above expect that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from labkit.base.errors import LabkitError

__all__ = ["FRAME_BYTES_MAX", "Place", "Transport", "TransportHandler", "frame"]

FRAME_BYTES_MAX = 64 << 20
"""Whoever announces more than this is not one of ours."""
_BACKLOG_BYTES_MAX = 8 << 20
"""Beyond this a peer does not keep up, and messages to it are lost."""
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_LENGTH = struct.Struct("!I")

Json = dict[str, Any]


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return _LENGTH.pack(len(payload)) + payload


class Place(Protocol):
    """Where a member can be reached."""

    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """Serve connections there. Raises OSError."""

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> Any:
        """Connect to there. Raises OSError."""


class TransportHandler(Protocol):
    """What a transport tells its member; called from the event loop."""

    def introduced(self, hello: Mapping[str, Any]) -> int:
        """Who has called; the peer's number. Raises LabkitError to refuse it by name."""

    def arrived(self, peer: int, payload: bytes) -> None:
        """A frame from a peer. Raises LabkitError when it makes no sense: the peer is cut off."""

    def refused(self, peer: int, reason: str) -> None:
        """A peer does not let this member in, or was cut off for `reason`."""


class _Frames(asyncio.Protocol):
    """Splits a stream into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= 4:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > FRAME_BYTES_MAX:
                self.trouble(f"a frame of {size} bytes")
                return
            if end - start - 4 < size:
                break
            self.one(bytes(buffer[start + 4 : start + 4 + size]))
            start += 4 + size
            if self.transport is None:
                return
        del buffer[:start]

    def one(self, payload: bytes) -> None:
        """A whole frame."""

    def trouble(self, what: str) -> None:  # noqa: ARG002 - for whoever has somebody to tell
        """The stream makes no sense."""
        self.close()

    def close(self) -> None:
        transport, self.transport = self.transport, None
        self._buffer.clear()
        if transport is not None:
            transport.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.transport = None


class _Incoming(_Frames):
    """A peer that sends to us."""

    def __init__(self, owner: Transport) -> None:
        super().__init__()
        self._owner = owner
        self.peer = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.callers.add(self)

    def one(self, payload: bytes) -> None:
        try:
            if not self.peer:
                self._introduce(payload)
            else:
                self._owner.handler.arrived(self.peer, payload)
        except LabkitError as error:
            self._refuse(error.message)

    def _introduce(self, payload: bytes) -> None:
        try:
            hello = json.loads(payload)
        except (ValueError, RecursionError):
            hello = None
        if not isinstance(hello, dict):
            self._refuse("the introduction is not a JSON object")
            return
        self.peer = self._owner.handler.introduced(hello)
        self._answer({"welcome": True})

    def _answer(self, value: Json) -> None:
        if self.transport is not None:
            self.transport.write(frame(json.dumps(value).encode()))

    def _refuse(self, reason: str) -> None:
        if self.peer:
            self._owner.handler.refused(self.peer, reason)
        self._answer({"refused": reason})
        self.close()

    def trouble(self, what: str) -> None:
        self._refuse(f"cannot read this stream: {what}")

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._owner.callers.discard(self)


class _Outgoing(_Frames):
    """Our connection to one peer."""

    def __init__(self, owner: Transport, peer: int) -> None:
        super().__init__()
        self._owner = owner
        self._peer = peer
        self.welcome = False
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(frame(json.dumps(dict(self._owner.hello)).encode()))

    def one(self, payload: bytes) -> None:
        try:
            said = json.loads(payload)
            reason = None if said.get("welcome") else str(said["refused"])
        except (ValueError, KeyError, AttributeError, RecursionError):
            reason = "its answer makes no sense"
        if reason is None:
            self.welcome = True
        else:
            self._owner.handler.refused(self._peer, reason)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.ended.done():
            self.ended.set_result(None)


class Transport:
    """One member's end of the network."""

    def __init__(self, place: Place, hello: Mapping[str, Any], handler: TransportHandler) -> None:
        """`hello` introduces this member to whoever it calls."""
        self.hello = hello
        self.handler = handler
        self.callers: set[_Incoming] = set()
        self.lost = 0
        """Frames that could not be handed to the kernel."""
        self._place = place
        self._server: asyncio.Server | None = None
        self._peers: dict[int, Place] = {}
        self._lines: dict[int, _Outgoing] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Begin to listen. Raises OSError."""
        self._server = await self._place.listen(lambda: _Incoming(self))

    def meet(self, peer: int, place: Place) -> None:
        """Keep a connection to this peer from now on."""
        if peer not in self._peers:
            self._peers[peer] = place
            self._tasks[peer] = asyncio.ensure_future(self._keep_calling(peer, place))

    def part(self, peer: int) -> None:
        """This peer is no member any more."""
        self._peers.pop(peer, None)
        task = self._tasks.pop(peer, None)
        if task is not None:
            task.cancel()
        line = self._lines.pop(peer, None)
        if line is not None:
            line.close()

    def is_connected(self, peer: int) -> bool:
        """Whether the peer has let us in."""
        line = self._lines.get(peer)
        return line is not None and line.welcome and line.transport is not None

    def send(self, peer: int, payload: bytes) -> bool:
        """Send a frame; False when it is lost at once."""
        line = self._lines.get(peer)
        transport = line.transport if line is not None and line.welcome else None
        if transport is None or transport.get_write_buffer_size() > _BACKLOG_BYTES_MAX:
            self.lost += 1
            return False
        transport.write(frame(payload))
        return True

    def close(self) -> None:
        """Stop at once, as a crash would: nothing more is sent or heard."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for peer in list(self._peers):
            self.part(peer)
        for caller in list(self.callers):
            caller.close()

    async def _keep_calling(self, peer: int, place: Place) -> None:
        failures = 0
        while True:
            line = self._lines[peer] = _Outgoing(self, peer)
            with contextlib.suppress(OSError):
                await place.connect(partial(_itself, line))
                await line.ended
            if line.welcome:
                failures = 0
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1


def _itself(line: _Outgoing) -> _Outgoing:
    return line
