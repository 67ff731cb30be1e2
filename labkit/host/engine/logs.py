"""GET /containers/X/logs: reading json-file logs back, old files first, and following them.

Each line of the file is one JSON object {"log", "stream", "time"}. `--tail` finds its place by
reading backwards, so the last ten lines of a gigabyte cost one block. Following waits for
inotify on the container's folder; it ends when the container does.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import quote

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.engine.container import Container
from labkit.host.engine.filters import parse_time_ns
from labkit.host.engine.hostconfig import LogConfig
from labkit.host.engine.times import format_time_fixed

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["LogOptions", "LogStream", "log_attributes", "open_logs"]

_BLOCK = 1 << 16
_BATCH = 1 << 19
_TEXT_BEGIN, _TEXT_END = b'{"log":"', b'","stream":"std'
_NAMES = {b"o": "stdout", b"e": "stderr"}
_HEADS = {"stdout": b"\x01\0\0\0", "stderr": b"\x02\0\0\0"}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The query of a logs call; times are Unix nanoseconds, `tail` None is all."""

    stdout: bool = False
    stderr: bool = False
    follow: bool = False
    since_ns: int | None = None
    until_ns: int | None = None
    tail: int | None = None
    timestamps: bool = False
    details: bool = False


class LogStream(AsyncIterator[bytes]):
    """Bytes of a log: framed, or raw for a terminal. `aclose` ends it."""

    def __init__(self, source: AsyncIterator[bytes], *, tty: bool) -> None:
        self._source = source
        self.tty = tty

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await self._source.__anext__()

    async def aclose(self) -> None:
        """Stop reading."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


async def open_logs(context: Context, reference: str, options: LogOptions) -> LogStream:
    """The log of a container, from its beginning or its tail."""
    container = context.find(reference)
    if not (options.stdout or options.stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    if container.host.log_config.type == "none":
        raise Unsupported("configured logging driver does not support reading")
    render = _Renderer(options, container)
    return LogStream(_stream(context, container, options, render), tty=container.config.tty)


def log_attributes(log: LogConfig, labels: dict[str, str], env: tuple[str, ...]) -> dict[str, str]:
    """What `--log-opt labels=…,env=…` adds to every line, shown by `--details`."""
    options = log.config or {}
    wanted_labels = [name for name in options.get("labels", "").split(",") if name]
    wanted_env = [name for name in options.get("env", "").split(",") if name]
    variables = dict(entry.partition("=")[::2] for entry in env)
    found = {name: labels[name] for name in wanted_labels if name in labels}
    found |= {name: variables[name] for name in wanted_env if name in variables}
    return found


class _Renderer:
    """Turns lines of the file into what the client gets, dropping what it did not ask for."""

    def __init__(self, options: LogOptions, container: Container) -> None:
        self._streams = {
            name for name, wanted in (("stdout", options.stdout), ("stderr", options.stderr))
            if wanted
        }  # fmt: skip
        self._options = options
        self._tty = container.config.tty
        self._timed = bool(options.since_ns or options.until_ns or options.timestamps)
        self._decorated = self._timed or options.details
        self.ended = False
        config = container.config
        attributes = log_attributes(
            container.host.log_config, config.labels or {}, config.env or ()
        )
        self._details = (
            ",".join(f"{quote(key)}={quote(value)}" for key, value in sorted(attributes.items()))
            + " "
        ).encode()

    def __call__(self, lines: list[bytes]) -> bytes:
        """Frames for many lines at once; `ended` is set when `until` has passed."""
        out: list[bytes] = []
        for line in lines if self._decorated else self._plain(lines, out):
            self._add(line, out)
            if self.ended:
                break
        return b"".join(out)

    def _plain(self, lines: list[bytes], out: list[bytes]) -> Iterator[bytes]:
        """Take lines as the shim writes them without decoding JSON, ten times as fast.

        A line whose only escape is its final newline is cut out between its keys. Any other is
        yielded, in order, to be decoded.
        """
        streams, tty = self._streams, self._tty
        for line in lines:
            end = line.rfind(_TEXT_END)
            text = line[len(_TEXT_BEGIN) : end]
            if end < 0 or not line.startswith(_TEXT_BEGIN) or text.find(b"\\") != len(text) - 2:
                yield line
                continue
            name = _NAMES.get(line[end + len(_TEXT_END) : end + len(_TEXT_END) + 1], "")
            if not name or not text.endswith(b"\\n"):
                yield line
            elif name in streams:
                size = len(text) - 1
                if not tty:
                    out.append(_HEADS[name] + size.to_bytes(4, "big"))
                out.append(text[:-2])
                out.append(b"\n")

    def _add(self, line: bytes, out: list[bytes]) -> None:
        """Decode one line and add what the options make of it."""
        options = self._options
        try:
            record = json.loads(line)
            stream = record["stream"]
            text = record["log"].encode("utf-8", "surrogatepass")
            at_ns = parse_time_ns(record["time"], 0) if self._timed else 0
        except (ValueError, KeyError, TypeError, AttributeError, InvalidParameter):
            return  # a line cut off by a crash of the machine
        if options.since_ns and at_ns < options.since_ns:
            return
        if options.until_ns and at_ns > options.until_ns:
            self.ended = True
            return
        if stream not in self._streams:
            return
        if options.details:
            text = self._details + text
        if options.timestamps:
            text = format_time_fixed(at_ns).encode() + b" " + text
        if not self._tty:
            out.append(_HEADS[stream] + len(text).to_bytes(4, "big"))
        out.append(text)


async def _stream(
    context: Context, container: Container, options: LogOptions, render: _Renderer
) -> AsyncIterator[bytes]:
    path = context.folder(container.id) / f"{container.id}-json.log"
    follow = options.follow and container.state.is_live
    grown = asyncio.Event()
    unwatch: Callable[[], None] | None = None
    if follow:
        # Watch before reading: what is written in between is then noticed.
        unwatch = context.folders.watch(path.parent, grown.set)
    reader = _LogFiles(path)
    try:
        await asyncio.to_thread(reader.open, options.tail)
        while not render.ended:
            is_over = not container.state.is_live
            grown.clear()
            found = await asyncio.to_thread(_next_piece, reader, render)
            if found is not None:
                if found:
                    yield found
                continue
            if not follow or is_over:
                break
            await _until_changed(container, grown, options.until_ns)
            if options.until_ns is not None and time.time_ns() > options.until_ns:
                follow = False
    finally:
        if unwatch is not None:
            unwatch()
        reader.close()


def _next_piece(reader: _LogFiles, render: _Renderer) -> bytes | None:
    """What the next lines look like to the client; None when there are none yet."""
    lines = reader.read()
    return render(lines) if lines else None


async def _until_changed(container: Container, grown: asyncio.Event, until_ns: int | None) -> None:
    """Return when the log has grown, the container has ended, or `until` has passed."""
    waits = [
        asyncio.ensure_future(grown.wait()),
        asyncio.ensure_future(container.exited.wait()),
    ]
    left_s = None if until_ns is None else max((until_ns - time.time_ns()) / 1e9, 0) + 0.001
    try:
        await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()


class _LogFiles:
    """The lines of a log across its rotated files; used in threads, one call at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older: list[BinaryIO] = []
        self._file: BinaryIO | None = None
        self._rest = b""

    def open(self, tail: int | None) -> None:
        """Find the beginning: everything, or the last `tail` lines."""
        files = list(_existing(self._path))
        if tail is not None:
            kept: list[BinaryIO] = []
            for file in reversed(files):
                if tail > 0:
                    tail -= _seek_back(file, tail)
                    kept.append(file)
                elif file is files[-1]:
                    file.seek(0, os.SEEK_END)
                    kept.append(file)
                else:
                    file.close()
            files = kept[::-1]
        self._older = files[:-1]
        self._file = files[-1] if files else None

    def read(self) -> list[bytes]:
        """The next complete lines, or nothing for now."""
        while self._older:
            lines = self._take(self._older[0])
            if lines:
                return lines
            self._older.pop(0).close()
            self._rest = b""
        if self._file is None:
            self._file = _open(self._path)
            if self._file is None:
                return []
        lines = self._take(self._file)
        if lines:
            return lines
        if self._was_rotated():
            # What was written between the last read and the rename.
            lines = self._take(self._file)
            self._file.close()
            self._file = _open(self._path)
            self._rest = b""
            return lines or (self._take(self._file) if self._file else [])
        return []

    def _take(self, file: BinaryIO) -> list[bytes]:
        while True:
            block = file.read(_BATCH)
            if not block:
                return []
            head, newline, rest = (self._rest + block).rpartition(b"\n")
            self._rest = rest
            if newline:
                return head.split(b"\n")

    def _was_rotated(self) -> bool:
        assert self._file is not None
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        return named.st_ino != os.fstat(self._file.fileno()).st_ino

    def close(self) -> None:
        for file in (*self._older, self._file):
            if file is not None:
                file.close()
        self._older, self._file = [], None


def _open(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        return None


def _existing(path: Path) -> Iterator[BinaryIO]:
    """Rotated files oldest first, then the present one."""
    found: list[BinaryIO] = []
    number = 1
    while (file := _open(path.with_name(f"{path.name}.{number}"))) is not None:
        found.append(file)
        number += 1
    yield from reversed(found)
    present = _open(path)
    if present is not None:
        yield present


def _seek_back(file: BinaryIO, lines: int) -> int:
    """Place `file` at the beginning of its last `lines` lines; returns how many it had."""
    end = file.seek(0, os.SEEK_END)
    position, seen = end, 0
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        # The newline that ends the last line begins none.
        stop = len(block) - 1 if position + size == end else len(block)
        while (stop := block.rfind(b"\n", 0, stop)) >= 0:
            seen += 1
            if seen == lines:
                file.seek(position + stop + 1)
                return seen
    file.seek(0)
    return seen + (1 if end else 0)
