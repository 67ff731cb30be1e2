"""Endpoints of networks: list, inspect, create, remove, prune, connect, disconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.routing import Route, delete, get, post
from labkit.host.engine import networking_connect

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]


async def networks(call: Call[Engine]) -> web.Response:
    """GET /networks."""
    return json_answer(call.state.context.networks.list(call.filters()))


async def network(call: Call[Engine]) -> web.Response:
    """GET /networks/X."""
    return json_answer(call.state.context.networks.inspect(call.params["id"]))


async def network_create(call: Call[Engine]) -> web.Response:
    """POST /networks/create."""
    found = await finish(call.state.context.networks.create(await call.body()))
    return json_answer(found, status=201)


async def network_prune(call: Call[Engine]) -> web.Response:
    """POST /networks/prune."""
    return json_answer(await finish(call.state.context.networks.prune(call.filters())))


async def network_remove(call: Call[Engine]) -> web.Response:
    """DELETE /networks/X."""
    await finish(call.state.context.networks.remove(call.params["id"]))
    return web.Response(status=204)


async def network_connect(call: Call[Engine]) -> web.Response:
    """POST /networks/X/connect."""
    body = await call.body()
    await finish(networking_connect.connect(call.state.context, call.params["id"], body))
    return web.Response(status=200)


async def network_disconnect(call: Call[Engine]) -> web.Response:
    """POST /networks/X/disconnect."""
    body = await call.body()
    await finish(networking_connect.disconnect(call.state.context, call.params["id"], body))
    return web.Response(status=200)


ROUTES: tuple[Route, ...] = (
    get("/networks", networks),
    post("/networks/create", network_create),
    post("/networks/prune", network_prune),
    get("/networks/{id}", network),
    delete("/networks/{id}", network_remove),
    post("/networks/{id}/connect", network_connect),
    post("/networks/{id}/disconnect", network_disconnect),
)
