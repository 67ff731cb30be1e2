"""Endpoints of a container's files: `docker cp` both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, finish
from labkit.daemon.docker_api.pipes import RequestBody, after_first, written_by
from labkit.daemon.docker_api.streams import send_bytes
from labkit.daemon.routing import Route, get

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]

_TAR = "application/x-tar"
_HEADER = "X-Docker-Container-Path-Stat"


def _path(call: Call[Engine]) -> str:
    path = call.text("path")
    if path is None:
        raise InvalidParameter("bad parameter: pathcannot be empty")
    return path


async def stat(call: Call[Engine]) -> web.Response:
    """HEAD /containers/X/archive?path=."""
    header = await call.state.container_archive_stat(call.params["id"], _path(call))
    return web.Response(headers={_HEADER: header})


async def read(call: Call[Engine]) -> web.StreamResponse:
    """GET /containers/X/archive?path=: a tar."""
    async with call.state.container_archive_read(call.params["id"], _path(call)) as archive:
        chunks = await after_first(written_by(archive.write))
        return await send_bytes(call.request, chunks, _TAR, headers={_HEADER: archive.header})


async def write(call: Call[Engine]) -> web.Response:
    """PUT /containers/X/archive?path=&noOverwriteDirNonDir=&copyUIDGID=."""
    await finish(
        call.state.container_archive_write(
            call.params["id"],
            _path(call),
            RequestBody(call.request),
            keep_kinds=call.flag("noOverwriteDirNonDir"),
            copy_owner=call.flag("copyUIDGID"),
        )
    )
    return web.Response(status=200)


ROUTES: tuple[Route, ...] = (
    Route("HEAD", "/containers/{id}/archive", stat),
    get("/containers/{id}/archive", read),
    Route("PUT", "/containers/{id}/archive", write),
)
