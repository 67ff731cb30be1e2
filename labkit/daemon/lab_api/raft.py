"""The consensus group as traces: recorded stories, and what the swarm's managers do right now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, json_answer
from labkit.daemon.routing import Route, get

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]


def _number(call: Call[Lab], name: str, low: int, high: int) -> int | None:
    value = call.integer(name)
    if value is not None and not low <= value <= high:
        raise InvalidParameter(f"{name} must be a number from {low} to {high}, not {value}")
    return value


async def scenarios(call: Call[Lab]) -> web.Response:  # noqa: ARG001 - one shape for all
    """GET /v1/raft/scenarios: the stories that can be played."""
    from labkit.cluster.raft.simulation.scenarios import SCENARIOS, SIZES

    return json_answer(
        [
            {
                "name": name,
                "title": scenario.title,
                "servers": scenario.servers,
                "sizes": list(SIZES),
            }
            for name, scenario in SCENARIOS.items()
        ]
    )


async def scenario(call: Call[Lab]) -> web.Response:
    """GET /v1/raft/scenarios/NAME?servers=&seed=: a story, as a trace of the implementation."""
    from labkit.cluster.raft.simulation.scenarios import play
    from labkit.world.pages import recorded

    servers = _number(call, "servers", 1, 99)
    seed = _number(call, "seed", 0, 2**53)
    trace = await asyncio.to_thread(play, call.params["name"], servers, seed)
    return json_answer(recorded(trace))


ROUTES: tuple[Route, ...] = (
    get("/v1/raft/scenarios", scenarios),
    get("/v1/raft/scenarios/{name}", scenario),
)
