"""GET /containers/X/logs: reading json-file logs back, old files first, and following them.

Each line of the file is one JSON object {"log", "stream", "time"}. `--tail` finds its place by
reading backwards (logfiles.py), so the last ten lines of a gigabyte cost one block. Following waits
for inotify on the container's folder; it ends when the container does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote_plus

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.engine.container import Container
from labkit.host.engine.filters import parse_time_ns
from labkit.host.engine.logdrivers import LogSource, can_be_read, log_attributes, log_file
from labkit.host.engine.logfiles import LogFiles
from labkit.host.engine.times import format_time_fixed
from labkit.host.isolation.native import log_frames

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["LogOptions", "LogStream", "log_source", "open_logs"]

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
    if not can_be_read(container.host.log_config):
        raise Unsupported("configured logging driver does not support reading")
    render = _Renderer(options, container)
    return LogStream(_stream(context, container, options, render), tty=container.config.tty)


def log_source(container: Container) -> LogSource:
    """What the tag and the attributes of a container's log are made of."""
    definition = container.definition
    return LogSource(
        id=container.id,
        name=container.name,
        image=definition.image,
        image_id=definition.image_id,
        labels=container.config.labels or {},
        env=container.config.env or (),
    )


class _Renderer:
    """Turns lines of the file into what the client gets, dropping what it did not ask for.

    The core does it for a block at a time, without holding up the event loop; only lines that are
    chosen by their time, or carry details, are decoded here.
    """

    def __init__(self, options: LogOptions, container: Container) -> None:
        self._streams = {
            name for name, wanted in (("stdout", options.stdout), ("stderr", options.stderr))
            if wanted
        }  # fmt: skip
        self._options = options
        self._tty = container.config.tty
        self._timed = bool(options.since_ns or options.until_ns or options.timestamps)
        self._one_by_one = bool(options.since_ns or options.until_ns or options.details)
        self.ended = False
        attributes = log_attributes(container.host.log_config, log_source(container))
        self._details = (
            ",".join(
                f"{quote_plus(key)}={quote_plus(value)}"
                for key, value in sorted(attributes.items())
            )
            + " "
        ).encode()

    def __call__(self, lines: bytes) -> bytes:
        """Frames for many lines at once; `ended` is set when `until` has passed."""
        out: list[bytes] = []
        at = 0
        if not self._one_by_one:
            found, at = log_frames(
                lines,
                stdout="stdout" in self._streams,
                stderr="stderr" in self._streams,
                raw=self._tty,
                timestamps=self._options.timestamps,
            )
            out.append(found)
        # The rest of a block that somebody else wrote a line of.
        for line in lines[at:].splitlines():
            self._add(line, out)
            if self.ended:
                break
        return b"".join(out)

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
    path = log_file(context.folder(container.id), container.id, container.host.log_config)
    assert path is not None
    follow = options.follow and container.state.is_live
    grown = asyncio.Event()
    unwatch: Callable[[], None] | None = None
    if follow:
        # Watch before reading: what is written in between is then noticed.
        unwatch = context.folders.watch(path.parent, grown.set)
    reader = LogFiles(path)
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


def _next_piece(reader: LogFiles, render: _Renderer) -> bytes | None:
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
