"""Boxes over HTTP: make one, send it a primitive, look at it from outside, end it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.box_ops import perform
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.processes import read_proc
from labkit.daemon.routing import Route, delete, get, post

if TYPE_CHECKING:
    from labkit.daemon.boxes import Box
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]

_LABELS_MAX = 64


def _summary(box: Box) -> dict[str, Any]:
    return {
        "id": box.id,
        "name": box.name,
        "pid": box.pid,
        "labels": box.labels,
        "created_ns": box.created_ns,
    }


async def create(call: Call[Lab]) -> web.Response:
    """POST /v1/boxes {"name", "labels"}."""
    body = await call.optional_body()
    name, labels = body.get("name", "box"), body.get("labels") or {}
    if not isinstance(name, str):
        raise InvalidParameter("name must be a string")
    if (
        not isinstance(labels, dict)
        or len(labels) > _LABELS_MAX
        or not all(isinstance(value, str) for value in labels.values())
    ):
        raise InvalidParameter("labels must be an object of strings")
    return json_answer(_summary(await finish(call.state.boxes.create(name, labels))), status=201)


async def list_all(call: Call[Lab]) -> web.Response:
    """GET /v1/boxes."""
    return json_answer([_summary(box) for box in call.state.boxes.living()])


async def inspect(call: Call[Lab]) -> web.Response:
    """GET /v1/boxes/X: what the kernel says about it, seen from outside."""
    box = call.state.boxes.get(call.params["id"])
    seen = await box.process.describe()
    return json_answer({**seen, "lo_up": await asyncio.to_thread(_lo_up, box.pid), **_summary(box)})


def _lo_up(pid: int) -> bool:
    """Whether the loopback interface answers in the network namespace of `pid`: the kernel gives
    it its addresses when it is switched on, and they show in these two tables (proc_net(5))."""
    return "127.0.0.1" in read_proc(pid, "net/fib_trie") or read_proc(
        pid, "net/if_inet6"
    ).rstrip().endswith(" lo")


async def ops(call: Call[Lab]) -> web.Response:
    """POST /v1/boxes/X/ops {"op", "args"}: one primitive. A primitive that the kernel refuses is
    a 200 with "ok": false, because being refused is what some lessons are about."""
    body = await call.body()
    op, args = body.get("op"), body.get("args") or {}
    if not isinstance(op, str) or not isinstance(args, dict):
        raise InvalidParameter('a primitive is {"op": name, "args": object}')
    box = call.state.boxes.get(call.params["id"])
    return json_answer(await finish(perform(call.state, box, op, args)))


async def remove(call: Call[Lab]) -> web.Response:
    """DELETE /v1/boxes/X."""
    await finish(call.state.boxes.remove(call.params["id"]))
    return web.Response(status=204)


ROUTES: tuple[Route, ...] = (
    get("/v1/boxes", list_all),
    post("/v1/boxes", create),
    get("/v1/boxes/{id}", inspect),
    post("/v1/boxes/{id}/ops", ops),
    delete("/v1/boxes/{id}", remove),
)
