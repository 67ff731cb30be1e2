"""Endpoints of volumes: folders that outlive their containers, of the one driver `local`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter, NotFound
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.routing import Route, delete, get, post
from labkit.host.engine.filters import check_names, matches_boolean, matches_labels
from labkit.host.engine.info import volume_json

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]

_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"all", "label", "label!"})


def _shown(engine: Engine, name: str) -> dict[str, Any]:
    """A volume without the usage that only /system/df counts."""
    found = volume_json(engine.context, name)
    found.pop("UsageData", None)
    return found


async def list_all(call: Call[Engine]) -> web.Response:
    """GET /volumes."""
    filters = call.filters()
    check_names(filters, _LIST_FILTERS)
    volumes = call.state.context.volumes
    found = []
    for name in volumes.names():
        in_use = bool(volumes.users_of(name))
        if (
            matches_boolean(filters, "dangling", default=not in_use) != (not in_use)
            or not matches_labels(filters.get("label", []), volumes.get(name).labels)
            or (filters.get("driver") and "local" not in filters["driver"])
            or (filters.get("name") and not any(part in name for part in filters["name"]))
        ):
            continue
        found.append(_shown(call.state, name))
    return json_answer({"Volumes": found, "Warnings": None})


async def inspect(call: Call[Engine]) -> web.Response:
    """GET /volumes/X."""
    return json_answer(_shown(call.state, call.params["name"]))


def _strings(body: dict[str, Any], key: str) -> dict[str, str]:
    found = body.get(key) or {}
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InvalidParameter(f"invalid JSON: {key} must be an object of strings")
    return found


async def create(call: Call[Engine]) -> web.Response:
    """POST /volumes/create. A volume that exists is answered as it is."""
    body = await call.optional_body()
    name, driver = body.get("Name") or "", body.get("Driver") or "local"
    if not isinstance(name, str) or not isinstance(driver, str):
        raise InvalidParameter("invalid JSON: Name and Driver must be strings")
    options = _strings(body, "DriverOpts")
    volumes = call.state.context.volumes
    volume = await finish(volumes.ensure(name, _strings(body, "Labels"), options, driver=driver))
    return json_answer(_shown(call.state, volume.name), status=201)


async def remove(call: Call[Engine]) -> web.Response:
    """DELETE /volumes/X?force=: forced removal of a volume that is not there succeeds."""
    try:
        await finish(call.state.context.volumes.remove(call.params["name"]))
    except NotFound:
        if not call.flag("force"):
            raise
    return web.Response(status=204)


async def prune(call: Call[Engine]) -> web.Response:
    """POST /volumes/prune: anonymous ones nobody uses; with `all` named ones too."""
    filters = call.filters()
    check_names(filters, _PRUNE_FILTERS)
    return json_answer(await finish(_prune(call.state, filters)))


async def _prune(engine: Engine, filters: dict[str, list[str]]) -> dict[str, Any]:
    volumes = engine.context.volumes
    every = matches_boolean(filters, "all", default=False)
    unwanted = filters.get("label!", [])
    removed, reclaimed = [], 0
    for name in volumes.names():
        volume = volumes.get(name)
        if (
            volumes.users_of(name)
            or not (every or volume.is_anonymous)
            or not matches_labels(filters.get("label", []), volume.labels)
            or any(matches_labels([word], volume.labels) for word in unwanted)
        ):
            continue
        reclaimed += await asyncio.to_thread(volumes.size, name)
        await volumes.remove(name)
        removed.append(name)
    await engine.context.emit("volume", "prune", "", {"reclaimed": str(reclaimed)})
    return {"VolumesDeleted": removed or None, "SpaceReclaimed": reclaimed}


ROUTES: tuple[Route, ...] = (
    get("/volumes", list_all),
    post("/volumes/create", create),
    post("/volumes/prune", prune),
    get("/volumes/{name}", inspect),
    delete("/volumes/{name}", remove),
)
