"""Recordings of packets: start, look, download, end (lab API /v1/captures)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.routing import Route, delete, get, post

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab
    from labkit.host.engine.networking_capture import Captures

__all__ = ["ROUTES"]


def _captures(call: Call[Lab]) -> Captures:
    return call.state.engine.context.networks.captures


async def list_all(call: Call[Lab]) -> web.Response:
    """GET /v1/captures."""
    return json_answer(_captures(call).summaries())


async def start(call: Call[Lab]) -> web.Response:
    """POST /v1/captures {target, filter, packets, seconds}."""
    capture = await finish(_captures(call).start(await call.body()))
    return json_answer(capture.describe(), status=201)


async def show(call: Call[Lab]) -> web.Response:
    """GET /v1/captures/ID?after=N: the recording, and its packets from number N + 1 on."""
    capture = _captures(call).get(call.params["id"])
    after = call.integer("after")
    rows = capture.rows(-1 if after is None else after)
    return json_answer({**capture.describe(), "rows": rows})


async def stop(call: Call[Lab]) -> web.Response:
    """POST /v1/captures/ID/stop: what was seen stays."""
    capture = _captures(call).get(call.params["id"])
    capture.stop()
    return json_answer(capture.describe())


async def pcap(call: Call[Lab]) -> web.Response:
    """GET /v1/captures/ID/pcap?place=N: a file for tcpdump and Wireshark."""
    capture = _captures(call).get(call.params["id"])
    place = call.integer("place")
    data = b"".join(capture.pcap(() if place is None else (place,)))
    return web.Response(body=data, content_type="application/vnd.tcpdump.pcap")


async def flow(call: Call[Lab]) -> web.Response:
    """GET /v1/captures/ID/flows: each packet's way, hop by hop, and the rules in force."""
    return json_answer(await _captures(call).flows(call.params["id"]))


async def forget(call: Call[Lab]) -> web.Response:
    """DELETE /v1/captures/ID."""
    _captures(call).forget(call.params["id"])
    return web.Response(status=204)


ROUTES: tuple[Route, ...] = (
    get("/v1/captures", list_all),
    post("/v1/captures", start),
    get("/v1/captures/{id}", show),
    get("/v1/captures/{id}/pcap", pcap),
    get("/v1/captures/{id}/flows", flow),
    post("/v1/captures/{id}/stop", stop),
    delete("/v1/captures/{id}", forget),
)
