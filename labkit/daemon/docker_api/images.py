"""Endpoints of images: list, inspect, history, tag, remove, pull, push, search, prune."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.streams import send_json_lines
from labkit.daemon.docker_api.versions import image_for
from labkit.daemon.routing import Route, delete, get, post
from labkit.host.image.reference import parse

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES", "registry_auth"]


async def list_all(call: Call[Engine]) -> web.Response:
    """GET /images/json."""
    found = await call.state.image_list(all=call.flag("all"), filters=call.filters())
    return json_answer([image_for(row, call.version) for row in found])


async def inspect(call: Call[Engine]) -> web.Response:
    """GET /images/X/json."""
    found = await call.state.image_inspect(call.params["name"])
    return json_answer(image_for(found, call.version))


async def history(call: Call[Engine]) -> web.Response:
    """GET /images/X/history."""
    return json_answer(await call.state.image_history(call.params["name"]))


async def tag(call: Call[Engine]) -> web.Response:
    """POST /images/X/tag?repo=&tag=."""
    repository = call.text("repo")
    if repository is None:
        raise InvalidParameter("repository name must have at least one component")
    await finish(call.state.image_tag(call.params["name"], repository, call.text("tag") or ""))
    return web.Response(status=201)


async def remove(call: Call[Engine]) -> web.Response:
    """DELETE /images/X?force=&noprune=."""
    return json_answer(
        await finish(
            call.state.image_remove(
                call.params["name"], force=call.flag("force"), noprune=call.flag("noprune")
            )
        )
    )


def registry_auth(header: str | None) -> dict[str, Any]:
    """The credentials of X-Registry-Auth (base64url JSON). Docker ignores what it cannot read."""
    if not header:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def create(call: Call[Engine]) -> web.StreamResponse:
    """POST /images/create?fromImage=&tag=: pull, as a stream of progress lines."""
    name, label = call.text("fromImage"), call.text("tag") or ""
    if name is None:
        if call.text("fromSrc") is not None:
            from labkit.daemon.docker_api.commits import import_tar

            return await import_tar(call)
        raise InvalidParameter("invalid reference format")
    if label:
        name += ("@" if ":" in label else ":") + label
    platform = call.text("platform") or ""
    auth = registry_auth(call.request.headers.get("X-Registry-Auth"))
    lines: AsyncIterator[dict[str, Any]]
    if label or str(parse(name)) != parse(name).name:
        lines = await call.state.image_pull(name, platform=platform, auth=auth)
    else:
        from labkit.host.engine.images import pull

        context = call.state.context
        lines = pull(context, name, platform=platform, auth=auth, all_tags=True)
    return await send_json_lines(call.request, lines, in_band_errors=True)


async def push(call: Call[Engine]) -> web.StreamResponse:
    """POST /images/X/push?tag=: as a stream of progress lines."""
    from labkit.host.engine.registries import push as push_image

    auth = registry_auth(call.request.headers.get("X-Registry-Auth"))
    lines = push_image(call.state.context, call.params["name"], call.text("tag") or "", auth=auth)
    return await send_json_lines(call.request, lines, in_band_errors=True)


async def distribution(call: Call[Engine]) -> web.Response:
    """GET /distribution/X/json: an image in its registry, not pulled."""
    from labkit.host.engine.registries import distribution as inspect_remote

    auth = registry_auth(call.request.headers.get("X-Registry-Auth"))
    return json_answer(await inspect_remote(call.state.context, call.params["name"], auth=auth))


async def prune(call: Call[Engine]) -> web.Response:
    """POST /images/prune."""
    return json_answer(await finish(call.state.image_prune(call.filters())))


async def search(call: Call[Engine]) -> web.Response:
    """GET /images/search: what the local catalog has."""
    from labkit.host.engine.registries import search as search_catalog

    term = call.text("term")
    if term is None:
        raise InvalidParameter("term is required")
    return json_answer(search_catalog(term, call.integer("limit"), call.filters()))


ROUTES: tuple[Route, ...] = (
    get("/images/json", list_all),
    get("/images/search", search),
    post("/images/create", create),
    post("/images/prune", prune),
    get("/images/{name:path}/json", inspect),
    get("/images/{name:path}/history", history),
    post("/images/{name:path}/tag", tag),
    post("/images/{name:path}/push", push),
    get("/distribution/{name:path}/json", distribution),
    delete("/images/{name:path}", remove),
)
