"""The consensus group as traces: recorded stories, and what the swarm's managers do right now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, json_answer
from labkit.daemon.routing import Route, get, post

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]

_PIECE_MAX = 2000
_WAIT_S_MAX = 30


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


async def table(call: Call[Lab]) -> web.Response:
    """GET /v1/raft: every manager's role, term, vote, commit and log."""
    fleet = await call.state.fleet()
    return json_answer(fleet.need_swarm().table())


async def live(call: Call[Lab]) -> web.Response:
    """GET /v1/raft/trace?after=&limit=&wait_s=: what the managers have done since event `after`."""
    fleet = await call.state.fleet()
    recorder = fleet.need_swarm().recorder
    after = call.integer("after")
    after = -1 if after is None else after
    limit = _number(call, "limit", 1, _PIECE_MAX) or _PIECE_MAX
    wait_s = _number(call, "wait_s", 0, _WAIT_S_MAX)
    if wait_s:
        await recorder.wait(after, wait_s)
    return json_answer(recorder.trace.page(after, limit))


async def propose(call: Call[Lab]) -> web.Response:
    """POST /v1/raft/propose {"value", "key", "node"}: a client writes, for the picture's sake.

    Without a `node` whoever leads is asked; a follower refuses, naming the leader. Does not wait
    for longer than two election timeouts: what a minority took may be told as not decided.
    """
    from labkit.cluster.store.commands import Put
    from labkit.cluster.store.errors import Indefinite

    body = await call.body()
    values = {name: body.get(name, "") for name in ("value", "key", "node")}
    if not all(isinstance(value, str) for value in values.values()):
        raise InvalidParameter("value, key and node must be strings")
    swarm = (await call.state.fleet()).need_swarm()
    member = swarm.named(values["node"]) if values["node"] else swarm.leader()
    if member is None:
        raise Indefinite("there is no leader at the moment", hint="%lab raft")
    patience_s = 2 * swarm.settings.tick_s * swarm.settings.options.election_ticks
    try:
        async with asyncio.timeout(patience_s):
            result = await member.submit(Put(values["key"] or "/requests", values["value"]))
    except TimeoutError:
        raise Indefinite(
            f"{member.name} has taken the request and cannot decide it: no majority answers",
            hint="%lab raft shows who is up",
        ) from None
    node = member.node
    return json_answer(
        {"revision": result.revision, "term": node.term, "index": node.commit, "node": member.name}
    )


ROUTES: tuple[Route, ...] = (
    get("/v1/raft", table),
    get("/v1/raft/trace", live),
    post("/v1/raft/propose", propose),
    get("/v1/raft/scenarios", scenarios),
    get("/v1/raft/scenarios/{name}", scenario),
)
