"""Where containers' files come from, for the mounts view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from labkit.daemon.call import Call, json_answer
from labkit.daemon.routing import Route, get

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]


async def mounts(call: Call[Lab]) -> web.Response:
    """GET /v1/views/mounts?container=X…: mounts of these containers, or of all."""
    from labkit.host.engine.mountview import mount_view

    wanted = call.request.query.getall("container", [])
    return json_answer(await mount_view(call.state.engine.context, wanted))


ROUTES: tuple[Route, ...] = (get("/v1/views/mounts", mounts),)
