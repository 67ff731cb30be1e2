"""Images as the lab sees them: what the catalog has, whether blobs are sound, bundles to carry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter
from labkit.daemon.call import Call, json_answer
from labkit.daemon.docker_api.images import registry_auth
from labkit.daemon.docker_api.pipes import RequestBody, after_first, written_by
from labkit.daemon.docker_api.streams import send_bytes, send_json_lines
from labkit.daemon.routing import Route, get, post

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]

_LOADED = "Loaded image: "


async def catalog(_: Call[Lab]) -> web.Response:
    """GET /v1/images/catalog: the course's images, and what each is without a network."""
    from labkit.host.image.bundles import kept
    from labkit.host.image.course import course_images, to_carry

    return json_answer(
        {
            "images": [asdict(one) for one in course_images()],
            "bundle": to_carry(),
            "kept": await asyncio.to_thread(kept),
        }
    )


def _names(body: dict[str, Any]) -> list[str]:
    names = body.get("images") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidParameter("images must be a list of names")
    return names


async def verify(call: Call[Lab]) -> web.StreamResponse:
    """POST /v1/images/verify {"images"}: every blob read again; one line for each image.

    Without names, every image is looked at. `wrong` holds a sentence for each thing found.
    """
    names = _names(await call.optional_body())
    store = call.state.images
    if not names:
        names = [image.id for image in await asyncio.to_thread(store.images, all=True)]

    async def found() -> AsyncIterator[dict[str, Any]]:
        for name in names:
            image = await asyncio.to_thread(store.get, name)
            wrong = await asyncio.to_thread(store.verify, name)
            yield {"image": name, "id": image.id, "tags": list(image.repo_tags), "wrong": wrong}

    return await send_json_lines(call.request, found(), in_band_errors=True)


async def bundle(call: Call[Lab]) -> web.StreamResponse:
    """GET /v1/images/bundle?names=…: images that are here, as one OCI layout in a tar."""
    from labkit.host.image.archive import save

    names = [name for name in call.request.query.getall("names", []) if name]
    if not names:
        raise InvalidParameter("no images were named")
    store = call.state.images
    chunks = written_by(lambda write: save(store, names, write))
    return await send_bytes(call.request, await after_first(chunks), "application/x-tar")


async def load_bundle(call: Call[Lab]) -> web.StreamResponse:
    """POST /v1/images/load-bundle: the images of such a tar, into the store and the catalog."""
    from labkit.host.image.archive import load
    from labkit.host.image.bundles import keep

    store = call.state.images
    lines: Iterator[dict[str, Any]] = load(store, RequestBody(call.request))

    async def told() -> AsyncIterator[dict[str, Any]]:
        while (line := await asyncio.to_thread(next, lines, None)) is not None:
            words = str(line.get("stream", "")).strip()
            if not words.startswith(_LOADED):
                yield line
                continue
            name = words.removeprefix(_LOADED)
            digest = await asyncio.to_thread(keep, store, name)
            yield {"image": name, "digest": digest}

    return await send_json_lines(call.request, told(), in_band_errors=True)


async def manifest(call: Call[Lab]) -> web.Response:
    """GET /v1/images/manifest?of=X&insecure=: a manifest, byte for byte as its registry keeps it.

    Content-Type is its media type. Credentials come as in Docker's API (X-Registry-Auth).
    """
    from labkit.host.engine.registries import manifest as fetch

    reference = call.text("of")
    if reference is None:
        raise InvalidParameter("no image was named", hint="of=localhost:5000/web:1")
    auth = registry_auth(call.request.headers.get("X-Registry-Auth"))
    kind, data = await fetch(reference, auth=auth, insecure=call.flag("insecure"))
    return web.Response(body=data, content_type=kind)


ROUTES: tuple[Route, ...] = (
    get("/v1/images/catalog", catalog),
    get("/v1/images/bundle", bundle),
    get("/v1/images/manifest", manifest),
    post("/v1/images/verify", verify),
    post("/v1/images/load-bundle", load_bundle),
)
