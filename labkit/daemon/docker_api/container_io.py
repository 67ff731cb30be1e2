"""Endpoints through which bytes flow: attach, logs, wait, stats."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.detach import DetachKeys, parse_keys
from labkit.daemon.docker_api.streams import send_bytes, send_json_lines
from labkit.daemon.routing import Route, get, post
from labkit.daemon.tunnel import Tunnel, hijack, relay

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine
    from labkit.host.engine.sessions import Attachment

__all__ = ["MULTIPLEXED", "RAW", "ROUTES", "stream_type"]

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_STATS_PERIOD_S = 1.0
# `docker stats` shows its first numbers after two samples; counters are in nanoseconds, so a short
# distance is as exact as Docker's whole second and ends sooner.
_STATS_FIRST_GAP_S = 0.25


def stream_type(call: Call[Engine], *, tty: bool) -> str:
    """What the bytes are. Clients before API 1.42 know only one word for both."""
    return MULTIPLEXED if not tty and call.version >= (1, 42) else RAW


async def attach(call: Call[Engine]) -> web.StreamResponse:
    """POST /containers/X/attach: the connection becomes the container's stdio."""
    keys = parse_keys(call.text("detachKeys"))
    await call.request.read()
    session = await call.state.container_attach(
        call.params["id"],
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        stream=call.flag("stream"),
        logs=call.flag("logs"),
    )
    try:
        upgraded = call.request.headers.get("Upgrade")
        tunnel = hijack(call.request, stream_type(call, tty=session.tty) if upgraded else RAW)
    except BaseException:
        await session.close()
        raise
    await finish(_carry(call, tunnel, session, DetachKeys(keys) if session.tty else None))
    return tunnel.response


async def _carry(
    call: Call[Engine], tunnel: Tunnel, session: Attachment, keys: DetachKeys | None
) -> None:
    """To the end also when the handler is cancelled, which it is as soon as the tunnel closes."""
    if await relay(tunnel, session, keys):
        await call.state.container_event(call.params["id"], "detach")


async def attach_websocket(call: Call[Engine]) -> web.StreamResponse:
    """GET /containers/X/attach/ws: the same over a websocket, for pages in a browser.

    Output comes as binary messages without frame headers; messages received are typed input.
    """
    from labkit.daemon.docker_api.websockets import carry

    keys = parse_keys(call.text("detachKeys"))
    session = await call.state.container_attach(
        call.params["id"],
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        stream=call.flag("stream"),
        logs=call.flag("logs"),
    )
    return await carry(call.request, session, DetachKeys(keys) if session.tty else None)


async def logs(call: Call[Engine]) -> web.StreamResponse:
    """GET /containers/X/logs."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    stream = await call.state.container_logs(
        call.params["id"],
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        since_ns=call.nanoseconds("since"),
        until_ns=call.nanoseconds("until"),
        tail=_tail(call),
        timestamps=call.flag("timestamps"),
        details=call.flag("details"),
    )
    return await send_bytes(call.request, stream, stream_type(call, tty=stream.tty))


def _tail(call: Call[Engine]) -> int | None:
    """Lines from the end. Docker takes whatever is not a number, or below zero, for "all"."""
    with contextlib.suppress(InvalidParameter):
        count = call.integer("tail")
        return count if count is not None and count >= 0 else None
    return None


async def wait(call: Call[Engine]) -> web.StreamResponse:
    """POST /containers/X/wait: headers at once, because the client starts the container only
    when it has them; the body when the condition holds."""
    condition = call.text("condition") or "not-running"
    if condition not in ("not-running", "next-exit", "removed"):
        raise InvalidParameter(f'invalid condition: "{condition[:64]}"')
    waiter = await call.state.container_wait(call.params["id"], condition=condition)

    async def outcome() -> AsyncIterator[dict[str, Any]]:
        try:
            yield dict(await waiter)
        except LabkitError as error:
            yield {"StatusCode": -1, "Error": {"Message": error.message}}

    return await send_json_lines(call.request, outcome())


async def stats(call: Call[Engine]) -> web.StreamResponse:
    """GET /containers/X/stats: one sample a second, or a single one."""
    reference = call.params["id"]
    streaming = call.flag("stream", default=True)
    one_shot = call.flag("one-shot")
    if streaming and one_shot:
        raise InvalidParameter("cannot have stream=true and one-shot=true")
    if not streaming and not one_shot:
        return json_answer(_after(*await call.state.container_stats_pair(reference)))
    first = await call.state.container_stats(reference)
    if not streaming:
        return json_answer(first)
    return await send_json_lines(call.request, _sampled(call.state, reference, first))


async def _sampled(
    engine: Engine, reference: str, first: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Samples until the container is removed. The first pair comes soon, so that `docker stats`
    has something to show; it reconnects for ever if the stream ends, so it stays open."""
    previous = first
    yield previous
    gap = _STATS_FIRST_GAP_S
    while True:
        await asyncio.sleep(gap)
        gap = _STATS_PERIOD_S
        sample = await engine.container_stats(reference)
        yield _after(previous, sample)
        previous = sample


def _after(previous: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
    """`sample` with what Docker's client subtracts from it."""
    return {
        **sample,
        "preread": previous.get("read", "0001-01-01T00:00:00Z"),
        "precpu_stats": previous.get("cpu_stats", {}),
    }


ROUTES: tuple[Route, ...] = (
    post("/containers/{id}/attach", attach),
    get("/containers/{id}/attach/ws", attach_websocket),
    get("/containers/{id}/logs", logs),
    post("/containers/{id}/wait", wait),
    get("/containers/{id}/stats", stats),
)
