"""Answers of an engine: read whole, read while they arrive, or taken over as a raw stream."""

from __future__ import annotations

import codecs
import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, Self

from labkit.base.errors import SystemFailure

__all__ = ["HijackedStream", "Response", "StreamResponse"]

_CHUNK = 1 << 16


class Response:
    """A complete answer: `status`, `headers` (case-insensitive), `body`."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body as JSON; None where it is empty."""
        return json.loads(self.body) if self.body.strip() else None

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class StreamResponse:
    """An answer that is read while it arrives. Close it, or use it in a `with` block."""

    def __init__(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = response.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all with -1); empty at the end. Lets it serve as a file."""
        return self._response.read(None if size < 0 else size)

    def chunks(self) -> Iterator[bytes]:
        """Bytes as they arrive."""
        while data := self._response.read1(_CHUNK):
            yield data

    def json_lines(self) -> Iterator[Any]:
        """JSON values, one after the other, whether or not newlines stand between them."""
        decoder = json.JSONDecoder()
        text = ""
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        for data in self.chunks():
            text = (text + incremental.decode(data)).lstrip()
            while text:
                try:
                    value, end = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    break
                yield value
                text = text[end:].lstrip()
        if text.strip():
            raise SystemFailure("the engine ended its answer in the middle of a JSON value")

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Docker's multiplexed frames: (1 stdout | 2 stderr | 3 error of the stream, bytes)."""
        buffer = bytearray()
        for data in self.chunks():
            buffer += data
            while frame := _take_frame(buffer):
                yield frame

    def settimeout(self, seconds: float | None) -> None:
        """Longest silence tolerated; None waits for ever."""
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def _take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Remove one complete frame from the front of `buffer`, or return None."""
    if len(buffer) < 8:
        return None
    size = int.from_bytes(buffer[4:8], "big")
    if len(buffer) < 8 + size:
        return None
    frame = (buffer[0], bytes(buffer[8 : 8 + size]))
    del buffer[: 8 + size]
    return frame


class HijackedStream:
    """Raw bytes both ways after an upgraded request.

    Reading keeps its own buffer, so that a KeyboardInterrupt between two reads loses nothing
    and reading can go on afterwards. Reading and writing may happen in different threads.
    """

    def __init__(
        self, sock: socket.socket, buffered: bytes, status: int, headers: http.client.HTTPMessage
    ) -> None:
        self.socket = sock
        self.status = status
        self.headers = headers
        self._buffer = bytearray(buffered)
        self._ended = False
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> bool:
        if self._ended:
            return False
        try:
            data = self.socket.recv(_CHUNK)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        except OSError:
            if not self._closed:
                raise
            data = b""  # another thread closed it: that is the end
        self._ended = not data
        self._buffer += data
        return bool(data)

    def read_raw(self) -> bytes:
        """Whatever arrives next; empty at the end. For sessions with a terminal."""
        if not self._buffer:
            self._fill()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def read_frame(self) -> tuple[int, bytes] | None:
        """The next multiplexed frame, or None at the end. For sessions without a terminal."""
        while True:
            frame = _take_frame(self._buffer)
            if frame is not None or not self._fill():
                return frame

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """All frames until the end."""
        while (frame := self.read_frame()) is not None:
            yield frame

    def write(self, data: bytes) -> None:
        """Send to the other side's stdin."""
        self.socket.sendall(data)

    def close_stdin(self) -> None:
        """End of stdin: closes our sending half only, output goes on."""
        if hasattr(self.socket, "unwrap"):  # TLS cannot be half-closed through shutdown()
            return
        with contextlib.suppress(OSError):  # the other side has gone; reading will say so
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that is reading
        self.socket.close()
