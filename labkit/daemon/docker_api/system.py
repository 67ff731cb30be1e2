"""Endpoints about the engine as a whole: ping, version, info, events, disk usage, auth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, json_answer
from labkit.daemon.docker_api.streams import send_json_lines
from labkit.daemon.docker_api.versions import disk_usage_for, info_for
from labkit.daemon.identity import PING_HEADERS
from labkit.daemon.routing import Route, get, post

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]

_DF_TYPES = {
    "container": ("Containers",),
    "image": ("Images", "LayersSize"),
    "volume": ("Volumes",),
    "build-cache": ("BuildCache",),
}


async def ping(call: Call[Engine]) -> web.Response:
    """HEAD and GET /_ping: what every client asks first."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    return web.Response(body=body, headers=PING_HEADERS, content_type="text/plain", charset="utf-8")


async def version(call: Call[Engine]) -> web.Response:
    """GET /version."""
    return json_answer(call.state.version())


async def info(call: Call[Engine]) -> web.Response:
    """GET /info."""
    return json_answer(info_for(await call.state.info(), call.version))


async def events(call: Call[Engine]) -> web.StreamResponse:
    """GET /events: history since `since`, then live until `until`."""
    stream = await call.state.events(
        since_ns=call.nanoseconds("since"),
        until_ns=call.nanoseconds("until"),
        filters=call.filters(),
    )
    return await send_json_lines(call.request, stream)


async def disk_usage(call: Call[Engine]) -> web.Response:
    """GET /system/df, restricted by the repeated `type`."""
    wanted = call.request.query.getall("type", [])
    unknown = [word for word in wanted if word not in _DF_TYPES]
    if unknown:
        raise InvalidParameter(f"unknown object type: {unknown[0][:64]}")
    usage: dict[str, Any] = await call.state.system_df()
    if wanted:
        keys = {key for word in wanted for key in _DF_TYPES[word]}
        usage = {key: value for key, value in usage.items() if key in keys}
    return json_answer(disk_usage_for(usage, call.version))


async def auth(call: Call[Engine]) -> web.Response:
    """POST /auth: the registry itself is asked whether it takes these credentials."""
    from labkit.host.image.registry.login import check_login

    return json_answer(await check_login(await call.body()))


async def nothing(_: Call[Engine]) -> web.Response:
    """GET /plugins: there are none."""
    return json_answer([])


ROUTES: tuple[Route, ...] = (
    Route("HEAD", "/_ping", ping),
    get("/_ping", ping),
    get("/version", version),
    get("/info", info),
    get("/events", events),
    get("/system/df", disk_usage),
    post("/auth", auth),
    get("/plugins", nothing),
)
