"""What holds containers and boxes: capabilities, filters, limits, and the verdict on one call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter, NotFound
from labkit.daemon.call import Call, json_answer
from labkit.daemon.routing import Route, get

if TYPE_CHECKING:
    from labkit.daemon.boxes import Box
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES", "confinements"]

_ARGUMENTS_MAX = 6  # a system call has no more (syscall(2))


async def confinements(lab: Lab) -> dict[str, dict[str, Any]]:
    """By `container:ID` and `box:ID`, as GET /v1/containers/X/confinement says it."""
    from labkit.host.engine.confinement import all_confinements

    found = {
        f"container:{identifier}": one
        for identifier, one in (await all_confinements(lab.engine.context)).items()
    }
    for box in lab.boxes.living():
        try:
            found[f"box:{box.id}"] = await asyncio.to_thread(_of_box, box)
        except NotFound:
            continue
    return found


def _of_box(box: Box) -> dict[str, Any]:
    from labkit.host.isolation.box_view import counters
    from labkit.host.isolation.confinement import confinement_of

    found = confinement_of(box.pid)
    group = box.process.group
    levels: dict[str, Any] = {}
    if box.process.has_cgroup and group is not None and group.folders:
        read = counters(group)
        levels = {
            "memory": {
                "used_bytes": read.get("memory_usage_bytes", 0),
                "limit_bytes": read.get("memory_limit_bytes", 0),
                "hits": read.get("memory_failcnt", 0),
                "oom_kills": read.get("oom_kills", 0),
            },
            "pids": {"used": read.get("pids_current", 0), "limit": read.get("pids_limit", 0)},
        }
    return {"id": box.id, "name": box.name, "privileged": False, **found, "cgroup": levels}


async def of_container(call: Call[Lab]) -> web.Response:
    """GET /v1/containers/X/confinement."""
    from labkit.host.engine.confinement import confinement

    return json_answer(await confinement(call.state.engine.context, call.params["id"]))


async def verdict(call: Call[Lab]) -> web.Response:
    """GET /v1/containers/X/verdict?call=NAME&arg=N&arg=N…: its filter's answer to one call."""
    from labkit.host.engine.confinement import verdict as engine_verdict

    name = call.text("call")
    if not name:
        raise InvalidParameter("which system call? call=NAME is missing", hint="call=mount")
    arguments = []
    for word in call.request.query.getall("arg", [])[:_ARGUMENTS_MAX]:
        try:
            arguments.append(int(word, 0))
        except ValueError as error:
            raise InvalidParameter(f"argument {word!r} is not a number") from error
    return json_answer(
        await asyncio.to_thread(
            engine_verdict, call.state.engine.context, call.params["id"], name, arguments
        )
    )


ROUTES: tuple[Route, ...] = (
    get("/v1/containers/{id}/confinement", of_container),
    get("/v1/containers/{id}/verdict", verdict),
)
