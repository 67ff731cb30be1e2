"""Open lines to a process's stdio: what attach and exec hand to whoever talks to the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from labkit.base.errors import Conflict
from labkit.host.engine.ports import ShimPort

__all__ = ["Attachment", "PendingAttach", "Reader", "Replay", "Writer", "live"]

_MAX_EARLY_BYTES = 1 << 20


class Reader(Protocol):
    """Output: Docker's frames, or raw bytes of a terminal."""

    async def read(self, n: int = -1, /) -> bytes: ...


class Writer(Protocol):
    """Input, raw."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...


class Attachment:
    """One client's session. `read` gives b"" when the process has closed its output."""

    def __init__(
        self, reader: Reader, writer: Writer | None, *, tty: bool, close: Callable[[], None]
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.tty = tty
        self.leave = close
        """End the session; the process goes on."""

    async def close(self) -> None:
        """Leave; the process goes on."""
        self.leave()


class Replay:
    """Bytes from the past, then a live reader (None: nothing more)."""

    def __init__(self, past: bytes, then: Reader | None) -> None:
        self._past = memoryview(past)
        self._then = then

    async def read(self, n: int = -1, /) -> bytes:
        if self._past:
            size = len(self._past) if n < 0 else n
            piece, self._past = self._past[:size], self._past[size:]
            return bytes(piece)
        return b"" if self._then is None else await self._then.read(n)


async def live(shim: ShimPort, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Attachment:
    """A session with a process that already has its shim."""
    reader, writer = await shim.attach(stdin=stdin, stdout=stdout, stderr=stderr)
    return Attachment(reader, writer if stdin else None, tty=tty, close=writer.close)


class PendingAttach:
    """A session opened before the container starts.

    It is itself reader and writer: reading waits for the start, writing is kept (up to 1 MiB)
    until then. `go_live` connects it while the process is still held, so nothing is missed.
    """

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._early = bytearray()
        self._early_eof = False
        self._ready = asyncio.Event()
        self._reader: Reader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """The client has left."""
        return self._closed

    async def go_live(self, shim: ShimPort) -> None:
        """Connect to the process; a client that left meanwhile is let go."""
        if self._closed:
            return
        self._reader, self._writer = await shim.attach(
            stdin=self.stdin, stdout=self.stdout, stderr=self.stderr
        )
        if self._early:
            self._writer.write(bytes(self._early))
            self._early.clear()
        if self._early_eof:
            self._writer.write_eof()
        self._ready.set()
        if self.is_closed:  # the client left while we connected
            self.close()

    def abandon(self) -> None:
        """The container will not start: readers get the end."""
        self._ready.set()

    def close(self) -> None:
        """The client leaves."""
        self._closed = True
        self._ready.set()
        if self._writer is not None:
            self._writer.close()

    async def read(self, n: int = -1, /) -> bytes:
        await self._ready.wait()
        return b"" if self._reader is None else await self._reader.read(n)

    def write(self, data: bytes, /) -> None:
        if self._writer is not None:
            self._writer.write(data)
        elif len(self._early) + len(data) > _MAX_EARLY_BYTES:
            raise Conflict("the container has not started: no more input is taken before it does")
        else:
            self._early += data

    async def drain(self) -> None:
        if self._writer is None:
            await self._ready.wait()
        if self._writer is not None:
            await self._writer.drain()

    def write_eof(self) -> None:
        if self._writer is None:
            self._early_eof = True
        else:
            with contextlib.suppress(OSError):
                self._writer.write_eof()
