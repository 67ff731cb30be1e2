"""Endpoints of networks, as far as this host has them: a list that is true.

A lab host has the two that need nothing made: `host` (the lab host's own) and `none` (a loopback
of the container's own).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import Forbidden, InvalidParameter, NotFound, Unsupported
from labkit.daemon.call import Call, Filters, json_answer
from labkit.daemon.routing import Route, delete, get, post

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]

_NETWORK_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


def _network(name: str, driver: str) -> dict[str, Any]:
    """A built-in network as Docker describes it; its id depends on its name only."""
    return {
        "Name": name,
        "Id": hashlib.sha256(f"labkit network {name}".encode()).hexdigest(),
        "Created": "1970-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


_BUILT_IN = (_network("host", "host"), _network("none", "null"))


def _check(filters: Filters, known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name[:64]}'")


def _wanted(network: dict[str, Any], filters: Filters) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value in str(network["Name"]),
        "id": lambda value: str(network["Id"]).startswith(value),
        "driver": lambda value: value == str(network["Driver"]),
        "scope": lambda value: value == str(network["Scope"]),
        "type": lambda value: value == "builtin",
        "dangling": lambda value: value in ("0", "false"),
        "label": lambda _: False,
    }
    return all(
        any(tests[name](value) for value in values) for name, values in filters.items() if values
    )


async def networks(call: Call[Engine]) -> web.Response:
    """GET /networks."""
    filters = call.filters()
    _check(filters, _NETWORK_FILTERS)
    return json_answer([network for network in _BUILT_IN if _wanted(network, filters)])


async def network(call: Call[Engine]) -> web.Response:
    """GET /networks/X."""
    wanted = call.params["id"]
    for known in _BUILT_IN:
        if wanted == known["Name"] or (len(wanted) > 2 and known["Id"].startswith(wanted)):
            return json_answer(known)
    raise NotFound(f"network {wanted} not found")


async def network_create(call: Call[Engine]) -> web.Response:
    """POST /networks/create: not in this lab yet, and it says what there is instead."""
    body = await call.body()
    raise Unsupported(
        f"cannot create network {str(body.get('Name', ''))[:64]}: this lab host has only the "
        "networks host and none",
    )


async def network_prune(_: Call[Engine]) -> web.Response:
    """POST /networks/prune: built-in networks are never removed."""
    return json_answer({"NetworksDeleted": None})


async def network_remove(call: Call[Engine]) -> web.Response:
    """DELETE /networks/X."""
    for known in _BUILT_IN:
        if call.params["id"] in (known["Name"], known["Id"]):
            raise Forbidden(f"{known['Name']} is a pre-defined network and cannot be removed")
    raise NotFound(f"network {call.params['id']} not found")


ROUTES: tuple[Route, ...] = (
    get("/networks", networks),
    post("/networks/create", network_create),
    post("/networks/prune", network_prune),
    get("/networks/{id}", network),
    delete("/networks/{id}", network_remove),
)
