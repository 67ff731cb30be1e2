"""Nodes, the swarm and chaos over the lab API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.routing import Route, delete, get, post

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]

Json = dict[str, Any]
_CHANGES = ("start", "stop", "pause", "unpause")


def _text(body: Json, name: str, default: str = "") -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise InvalidParameter(f"{name} must be a string")
    return value


def _count(body: Json, name: str, default: int) -> int:
    value = body.get(name, default)
    if type(value) is not int:
        raise InvalidParameter(f"{name} must be a number")
    return value


def _flag(body: Json, name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidParameter(f"{name} must be true or false")
    return value


def _texts(body: Json, name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidParameter(f"{name} must be a list of strings")
    return value


# -- nodes ---------------------------------------------------------------------------------------


async def nodes(call: Call[Lab]) -> web.Response:
    """GET /v1/nodes: the default host and every simulated node."""
    fleet = await call.state.fleet()
    return json_answer(fleet.nodes.to_json())


async def add_nodes(call: Call[Lab]) -> web.Response:
    """POST /v1/nodes {"names": [], "count": 0, "hollow": false, "platform": "linux/amd64"}."""
    body = await call.optional_body()
    fleet = await call.state.fleet()
    made = await finish(
        fleet.nodes.add(
            _texts(body, "names"),
            _count(body, "count", 0),
            hollow=_flag(body, "hollow"),
            platform=_text(body, "platform", "linux/amd64"),
        )
    )
    return json_answer([node.to_json() for node in made], status=201)


async def remove_nodes(call: Call[Lab]) -> web.Response:
    """DELETE /v1/nodes {"names": […]}."""
    names = _texts(await call.body(), "names")
    if not names:
        raise InvalidParameter("which nodes?", hint="labkit nodes rm NAME…")
    fleet = await call.state.fleet()
    await finish(fleet.remove_nodes(names))
    return json_answer({"removed": names})


async def change_node(call: Call[Lab]) -> web.Response:
    """POST /v1/nodes/NAME/{start,stop,pause,unpause}."""
    action = call.params["action"]
    if action not in _CHANGES:
        raise InvalidParameter(
            f"a node cannot {action}", hint=f"one of: {', '.join(_CHANGES)}; kill is chaos"
        )
    fleet = await call.state.fleet()
    node = await finish(fleet.change_node(call.params["name"], action))
    return json_answer(node.to_json())


# -- swarm ---------------------------------------------------------------------------------------


async def swarm(call: Call[Lab]) -> web.Response:
    """GET /v1/swarm: what is up, how fast it ticks, who leads."""
    fleet = await call.state.fleet()
    found = fleet.need_swarm().status()
    for node in found["nodes"]:
        known = fleet.nodes.all.get(node["name"])
        facts = known.to_json() if known is not None else {"status": "removed"}
        node.update({name: facts.get(name, "") for name in ("kind", "status", "address")})
    return json_answer(found)


async def swarm_up(call: Call[Lab]) -> web.Response:
    """POST /v1/swarm {"managers": 3, "workers": 0, "clock": "docker", "hollow": false}."""
    body = await call.optional_body()
    fleet = await call.state.fleet()
    await finish(
        fleet.swarm_up(
            _count(body, "managers", 3),
            _count(body, "workers", 0),
            clock=_text(body, "clock", "docker"),
            hollow=_flag(body, "hollow"),
        )
    )
    return await swarm(call)


async def swarm_down(call: Call[Lab]) -> web.Response:
    """DELETE /v1/swarm: the managers, their data and the swarm's nodes go."""
    fleet = await call.state.fleet()
    await finish(fleet.swarm_down())
    return json_answer({})


async def swarm_clock(call: Call[Lab]) -> web.Response:
    """POST /v1/swarm/clock {"clock": "docker" or "fast"}; without a clock it is only told."""
    clock = _text(await call.optional_body(), "clock")
    fleet = await call.state.fleet()
    found = fleet.need_swarm()
    if clock:
        found.set_clock(clock)
    status = found.status()
    names = ("clock", "tick_s", "election_ticks", "heartbeat_ticks")
    return json_answer({name: status[name] for name in names})


# -- chaos ---------------------------------------------------------------------------------------


async def chaos(call: Call[Lab]) -> web.Response:
    """GET /v1/chaos: what was done to which node when, and what is broken now."""
    fleet = await call.state.fleet()
    return json_answer(fleet.chaos.status())


async def do_chaos(call: Call[Lab]) -> web.Response:
    """POST /v1/chaos {"action": "kill", "nodes": ["leader"], "amount": ""}."""
    body = await call.body()
    fleet = await call.state.fleet()
    work = fleet.chaos.do(_text(body, "action"), _texts(body, "nodes"), _text(body, "amount"))
    return json_answer(await finish(work))


ROUTES: tuple[Route, ...] = (
    get("/v1/nodes", nodes),
    post("/v1/nodes", add_nodes),
    delete("/v1/nodes", remove_nodes),
    post("/v1/nodes/{name}/{action}", change_node),
    get("/v1/swarm", swarm),
    post("/v1/swarm", swarm_up),
    delete("/v1/swarm", swarm_down),
    post("/v1/swarm/clock", swarm_clock),
    get("/v1/chaos", chaos),
    post("/v1/chaos", do_chaos),
)
