"""Between a thread that writes or reads like a file, and the event loop's connections.

A pipe joins the two, so that an archive of any size passes through without being held. A client
that leaves breaks the pipe, and the thread ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from aiohttp import web

__all__ = ["RequestBody", "after_first", "written_by"]

_CHUNK = 1 << 16
Write = Callable[[bytes], object]


async def written_by(work: Callable[[Write], None]) -> AsyncIterator[bytes]:
    """What `work` writes, in a thread of its own. Its exception is raised at the end."""
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)

    def produce() -> None:
        with contextlib.suppress(BrokenPipeError), open(write_end, "wb", _CHUNK) as pipe:
            work(pipe.write)

    reader = asyncio.StreamReader(limit=_CHUNK)
    pipe = os.fdopen(read_end, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    producing = loop.run_in_executor(None, produce)
    try:
        while data := await reader.read(_CHUNK):
            yield data
        await producing
    finally:
        transport.close()
        with contextlib.suppress(Exception):
            await asyncio.shield(producing)


async def after_first(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`chunks`, once the first of them is there: what fails at once still gets a status."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(chunks) as rest:  # type: ignore[type-var]
            yield first
            async for chunk in rest:
                yield chunk

    return whole()


class RequestBody:
    """The request's body for a thread that reads it like a file."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self._loop = asyncio.get_running_loop()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        return asyncio.run_coroutine_threadsafe(self._content.read(size), self._loop).result()
