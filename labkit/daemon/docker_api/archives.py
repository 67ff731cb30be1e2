"""Endpoints whose bodies are whole archives: export, save, load.

The image floor writes and reads archives in a thread; pipes.py joins it to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call
from labkit.daemon.docker_api.pipes import RequestBody, after_first, written_by
from labkit.daemon.docker_api.streams import send_bytes, send_json_lines
from labkit.daemon.routing import Route, get, post

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]


async def export(call: Call[Engine]) -> web.StreamResponse:
    """GET /containers/X/export: its whole file system as one tar."""
    from labkit.host.image.commit import export as write_container

    context = call.state.context
    container = context.find(call.params["id"])
    chunks = written_by(lambda write: write_container(_snapshots(call), container.id, write))
    answer = await send_bytes(call.request, await after_first(chunks), "application/x-tar")
    await context.container_event(container, "export")
    return answer


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
    chunks = written_by(lambda write: write_images(store, names, write))
    return await send_bytes(call.request, await after_first(chunks), "application/x-tar")


async def load(call: Call[Engine]) -> web.StreamResponse:
    """POST /images/load: the images of a tar, one line for each."""
    from labkit.host.image.archive import load as read_images

    store = call.state.context.ports.images
    lines: Iterator[dict[str, Any]] = read_images(store, RequestBody(call.request))

    async def told() -> AsyncIterator[dict[str, Any]]:
        while (line := await asyncio.to_thread(next, lines, None)) is not None:
            yield line

    return await send_json_lines(call.request, told(), in_band_errors=True)


ROUTES: tuple[Route, ...] = (
    get("/containers/{id}/export", export),
    get("/images/get", save),
    get("/images/{name:path}/get", save),
    post("/images/load", load),
)
