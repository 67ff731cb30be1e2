"""Endpoints whose bodies are whole archives, or travel to a registry: export, save, load, push.

The image floor writes and reads archives in a thread; here a pipe joins that thread to the event
loop, so that an archive of any size passes through without being held. A client that leaves breaks
the pipe, and the thread ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call
from labkit.daemon.docker_api.images import registry_auth
from labkit.daemon.docker_api.streams import send_bytes, send_json_lines
from labkit.daemon.routing import Route, get, post

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]

_CHUNK = 1 << 16
Write = Callable[[bytes], object]


async def _written_by(work: Callable[[Write], None]) -> AsyncIterator[bytes]:
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


async def _after_first(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`chunks`, once the first of them is there: what fails at once still gets a status."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(chunks) as rest:  # type: ignore[type-var]
            yield first
            async for chunk in rest:
                yield chunk

    return whole()


async def export(call: Call[Engine]) -> web.StreamResponse:
    """GET /containers/X/export: its whole file system as one tar."""
    from labkit.host.image.commit import export as write_container

    context = call.state.context
    container = context.find(call.params["id"])
    chunks = _written_by(lambda write: write_container(_snapshots(call), container.id, write))
    return await send_bytes(call.request, await _after_first(chunks), "application/x-tar")


def _snapshots(call: Call[Engine]) -> Any:
    return call.state.context.ports.snapshots


async def save(call: Call[Engine]) -> web.StreamResponse:
    """GET /images/get?names=…&names=… and /images/X/get: images as one tar."""
    from labkit.host.image.archive import save as write_images

    names = [name for name in call.request.query.getall("names", []) if name]
    if "name" in call.params:
        names = [call.params["name"]]
    if not names:
        raise InvalidParameter("no images were named")
    store = call.state.context.ports.images
    chunks = _written_by(lambda write: write_images(store, names, write))
    return await send_bytes(call.request, await _after_first(chunks), "application/x-tar")


class _Body:
    """The request's body for a thread that reads it like a file."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self._loop = asyncio.get_running_loop()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        return asyncio.run_coroutine_threadsafe(self._content.read(size), self._loop).result()


async def load(call: Call[Engine]) -> web.StreamResponse:
    """POST /images/load: the images of a tar, one line for each."""
    from labkit.host.image.archive import load as read_images

    store = call.state.context.ports.images
    lines: Iterator[dict[str, Any]] = read_images(store, _Body(call.request))

    async def told() -> AsyncIterator[dict[str, Any]]:
        while (line := await asyncio.to_thread(next, lines, None)) is not None:
            yield line

    return await send_json_lines(call.request, told(), in_band_errors=True)


async def push(call: Call[Engine]) -> web.StreamResponse:
    """POST /images/X/push?tag=: to the registry that the name begins with."""
    from labkit.host.image.registry.login import options_from_auth
    from labkit.host.image.registry.upload import push as upload

    name, tag = call.params["name"], call.text("tag")
    lines = upload(
        call.state.context.ports.images,
        f"{name}:{tag}" if tag else name,
        options=options_from_auth(registry_auth(call.request.headers.get("X-Registry-Auth"))),
    )
    return await send_json_lines(call.request, lines, in_band_errors=True)


ROUTES: tuple[Route, ...] = (
    get("/containers/{id}/export", export),
    get("/images/get", save),
    get("/images/{name:path}/get", save),
    post("/images/load", load),
    post("/images/{name:path}/push", push),
)
