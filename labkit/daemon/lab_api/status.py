"""Who serves this lab, what it can do here, what is wrong with it, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.system import ping
from labkit.daemon.routing import Route, get, post

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]


async def status(call: Call[Lab]) -> web.Response:
    """GET /v1/status."""
    return json_answer(await call.state.status())


async def doctor(call: Call[Lab]) -> web.Response:
    """GET /v1/doctor: each thing looked at, what was found, what it means, how to mend it."""
    return json_answer(await call.state.doctor())


async def catalog(call: Call[Lab]) -> web.Response:
    """GET /v1/catalog: the images this lab can make without a network."""
    return json_answer(call.state.catalog())


def _flags(body: dict[str, Any], *names: str) -> list[bool]:
    for name in names:
        if not isinstance(body.get(name, False), bool):
            raise InvalidParameter(f"{name} must be true or false")
    return [body.get(name, False) for name in names]


async def shutdown(call: Call[Lab]) -> web.Response:
    """POST /v1/shutdown: end the daemon; with `stop_containers` the whole lab, with
    `remove_data` its images, containers and volumes as well. Answers when that is done."""
    stop_containers, remove_data = _flags(
        await call.optional_body(), "stop_containers", "remove_data"
    )
    if remove_data and not stop_containers:
        raise InvalidParameter("remove_data needs stop_containers: data in use cannot be removed")
    stopped = await finish(
        call.state.shut_down(stop_containers=stop_containers, remove_data=remove_data)
    )
    return json_answer({"stopped": stopped})


ROUTES: tuple[Route, ...] = (
    Route("HEAD", "/_ping", ping),
    get("/_ping", ping),
    get("/v1/status", status),
    get("/v1/doctor", doctor),
    get("/v1/catalog", catalog),
    post("/v1/shutdown", shutdown),
)
