"""Endpoints of exec: another process in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.container_io import stream_type
from labkit.daemon.docker_api.containers import console_size
from labkit.daemon.docker_api.detach import DetachKeys, parse_keys
from labkit.daemon.routing import Route, get, post
from labkit.daemon.tunnel import hijack, relay

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]


async def create(call: Call[Engine]) -> web.Response:
    """POST /containers/X/exec."""
    body = await call.body()
    return json_answer(await finish(call.state.exec_create(call.params["id"], body)), status=201)


async def start(call: Call[Engine]) -> web.StreamResponse:
    """POST /exec/ID/start: detached a plain 200, otherwise the connection becomes its stdio."""
    body = await call.optional_body()
    exec_id = call.params["id"]
    configured = (await call.state.exec_inspect(exec_id)).get("DetachKeys")
    keys = parse_keys(configured if isinstance(configured, str) else None)
    session = await finish(call.state.exec_start(exec_id, body))
    if session is None:
        return web.Response(status=200)
    try:
        tunnel = hijack(call.request, stream_type(call, tty=session.tty))
    except BaseException:
        await session.close()
        raise
    await relay(tunnel, session, DetachKeys(keys) if session.tty else None)
    return tunnel.response


async def inspect(call: Call[Engine]) -> web.Response:
    """GET /exec/ID/json: `ExitCode` becomes the client's own exit code."""
    return json_answer(await call.state.exec_inspect(call.params["id"]))


async def resize(call: Call[Engine]) -> web.Response:
    """POST /exec/ID/resize?h=&w=."""
    rows, columns = console_size(call)
    await call.state.exec_resize(call.params["id"], rows=rows, columns=columns)
    return web.Response(status=200)


ROUTES: tuple[Route, ...] = (
    post("/containers/{id}/exec", create),
    post("/exec/{id}/start", start),
    get("/exec/{id}/json", inspect),
    post("/exec/{id}/resize", resize),
)
