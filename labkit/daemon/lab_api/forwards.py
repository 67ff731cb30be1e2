"""A port of a container on the machine's loopback, though nobody has published it.

For `%lab open web:80`: the port is opened on demand, on a number the kernel chooses, for this
machine only. It closes when the container has ended or the daemon does; no container's record
speaks of it, because it is the reader's view into a container and not part of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aiohttp import web

from labkit.base.errors import Conflict, InvalidParameter, Unsupported
from labkit.daemon.call import Call, json_answer
from labkit.daemon.routing import Route, post

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab
    from labkit.host.network.proxy import Proxy

__all__ = ["ROUTES"]

_LOOPBACK = "127.0.0.1"
_FORWARDS_MAX = 200


@dataclass(slots=True)
class _Forward:
    proxy: Proxy
    target: tuple[str, int]
    port: int


_forwards: WeakKeyDictionary[Lab, dict[tuple[str, int], _Forward]] = WeakKeyDictionary()
_turn = asyncio.Lock()


def _target(found: dict[str, Any], port: int) -> tuple[str, int]:
    """Where the lab host finds a container's port. Raises Conflict or Unsupported."""
    name = str(found["Name"]).removeprefix("/")
    if not found["State"]["Running"]:
        raise Conflict(
            f"container {name} is not running", hint=f"start it first: `%docker start {name}`"
        )
    if found["HostConfig"]["NetworkMode"] == "host":
        return _LOOPBACK, port
    for endpoint in (found["NetworkSettings"].get("Networks") or {}).values():
        if endpoint.get("IPAddress"):
            return str(endpoint["IPAddress"]), port
    raise Unsupported(
        f"container {name} has no address: nothing can reach its port {port}",
        hint="run it on a network, or publish the port: `%docker run -p 8080:80 …`",
    )


async def forward(call: Call[Lab]) -> web.Response:
    """POST /v1/containers/X/forward {"port": N}: the address on this machine that leads there."""
    from labkit.host.engine.inspection import inspect
    from labkit.host.network.proxy import TcpProxy, open_proxy

    port = (await call.body()).get("port")
    if not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidParameter("'port' must be a number from 1 to 65535")
    lab = call.state
    context = lab.engine.context
    found = await inspect(context, call.params["id"])
    target = _target(found, port)
    plumbing = context.networks.plumbing
    if plumbing is None:
        raise Unsupported("this lab has no networks", hint="`%lab doctor` says why")
    async with _turn:
        known = _forwards.setdefault(lab, {})
        await _close_ended(lab, known)
        key = (str(found["Id"]), port)
        if key in known and known[key].target != target:
            await known.pop(key).proxy.close()
        if key not in known:
            if len(known) >= _FORWARDS_MAX:
                raise Conflict(f"{_FORWARDS_MAX} ports are open already")
            proxy = await open_proxy("tcp", (_LOOPBACK, 0), target, plumbing)
            assert isinstance(proxy, TcpProxy)
            known[key] = _Forward(proxy, target, proxy.port)
        made = known[key]
    return json_answer({"address": _LOOPBACK, "port": made.port, "target": list(target)})


async def _close_ended(lab: Lab, known: dict[tuple[str, int], _Forward]) -> None:
    living = {one.id for one in lab.engine.context.containers.values() if one.state.is_running}
    for key in [key for key in known if key[0] not in living]:
        await known.pop(key).proxy.close()


ROUTES: tuple[Route, ...] = (post("/v1/containers/{id}/forward", forward),)
