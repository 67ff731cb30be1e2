"""Endpoints of a container's life: create, list, inspect, start, stop, remove and the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.versions import container_for, row_for
from labkit.daemon.routing import Route, delete, get, post

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]

_CONSOLE_CELLS_MAX = 65535  # struct winsize holds unsigned shorts (ioctl_tty(2))


def _done() -> web.Response:
    return web.Response(status=204)


async def create(call: Call[Engine]) -> web.Response:
    """POST /containers/create?name=&platform=: 404 makes the client pull and ask again."""
    body = await call.body()
    made = await finish(
        call.state.container_create(body, name=call.text("name"), platform=call.text("platform"))
    )
    return json_answer(made, status=201)


async def list_all(call: Call[Engine]) -> web.Response:
    """GET /containers/json."""
    limit = call.integer("limit")
    found = await call.state.container_list(
        all=call.flag("all"),
        limit=limit if limit and limit > 0 else None,
        size=call.flag("size"),
        filters=call.filters(),
    )
    return json_answer([row_for(row, call.version) for row in found])


async def inspect(call: Call[Engine]) -> web.Response:
    """GET /containers/X/json."""
    found = await call.state.container_inspect(call.params["id"], size=call.flag("size"))
    return json_answer(container_for(found, call.version))


async def start(call: Call[Engine]) -> web.Response:
    """POST /containers/X/start. Old clients send a body here; it must be empty since 1.24."""
    if await call.optional_body():
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 "
            "and removed in v1.24"
        )
    await finish(call.state.container_start(call.params["id"]))
    return _done()


async def stop(call: Call[Engine]) -> web.Response:
    """POST /containers/X/stop?t=&signal=."""
    await finish(
        call.state.container_stop(
            call.params["id"], timeout=call.integer("t"), signal=call.text("signal")
        )
    )
    return _done()


async def restart(call: Call[Engine]) -> web.Response:
    """POST /containers/X/restart?t=&signal=."""
    await finish(
        call.state.container_restart(
            call.params["id"], timeout=call.integer("t"), signal=call.text("signal")
        )
    )
    return _done()


async def kill(call: Call[Engine]) -> web.Response:
    """POST /containers/X/kill?signal=."""
    await finish(call.state.container_kill(call.params["id"], signal=call.text("signal")))
    return _done()


async def pause(call: Call[Engine]) -> web.Response:
    """POST /containers/X/pause."""
    await finish(call.state.container_pause(call.params["id"]))
    return _done()


async def unpause(call: Call[Engine]) -> web.Response:
    """POST /containers/X/unpause."""
    await finish(call.state.container_unpause(call.params["id"]))
    return _done()


async def rename(call: Call[Engine]) -> web.Response:
    """POST /containers/X/rename?name=."""
    name = call.text("name")
    if name is None:
        raise InvalidParameter("Neither old nor new names may be empty")
    await finish(call.state.container_rename(call.params["id"], name))
    return _done()


async def update(call: Call[Engine]) -> web.Response:
    """POST /containers/X/update: limits and restart policy of a living container."""
    body = await call.body()
    return json_answer(await finish(call.state.container_update(call.params["id"], body)))


async def resize(call: Call[Engine]) -> web.Response:
    """POST /containers/X/resize?h=&w=."""
    rows, columns = console_size(call)
    await call.state.container_resize(call.params["id"], rows=rows, columns=columns)
    return web.Response(status=200)


def console_size(call: Call[Engine]) -> tuple[int, int]:
    """Rows and columns of a resize request. Raises InvalidParameter unless both make sense."""
    for name, word in (("h", "height"), ("w", "width")):
        value = call.integer(name)
        if value is None or not 0 <= value <= _CONSOLE_CELLS_MAX:
            shown = (call.text(name) or "")[:64]
            raise InvalidParameter(f'invalid resize {word} "{shown}": value must be 0 to 65535')
    return call.integer("h") or 0, call.integer("w") or 0


async def top(call: Call[Engine]) -> web.Response:
    """GET /containers/X/top?ps_args=."""
    return json_answer(
        await call.state.container_top(call.params["id"], ps_args=call.text("ps_args"))
    )


async def changes(call: Call[Engine]) -> web.Response:
    """GET /containers/X/changes: null when nothing changed, as Docker answers."""
    return json_answer(await call.state.container_changes(call.params["id"]) or None)


async def remove(call: Call[Engine]) -> web.Response:
    """DELETE /containers/X?force=&v=&link=."""
    await finish(
        call.state.container_remove(
            call.params["id"],
            force=call.flag("force"),
            volumes=call.flag("v"),
            link=call.flag("link"),
        )
    )
    return _done()


async def prune(call: Call[Engine]) -> web.Response:
    """POST /containers/prune."""
    return json_answer(await finish(call.state.container_prune(call.filters())))


ROUTES: tuple[Route, ...] = (
    post("/containers/create", create),
    post("/containers/prune", prune),
    get("/containers/json", list_all),
    get("/containers/{id}/json", inspect),
    get("/containers/{id}/top", top),
    get("/containers/{id}/changes", changes),
    post("/containers/{id}/start", start),
    post("/containers/{id}/stop", stop),
    post("/containers/{id}/restart", restart),
    post("/containers/{id}/kill", kill),
    post("/containers/{id}/pause", pause),
    post("/containers/{id}/unpause", unpause),
    post("/containers/{id}/rename", rename),
    post("/containers/{id}/update", update),
    post("/containers/{id}/resize", resize),
    delete("/containers/{id:path}", remove),
)
