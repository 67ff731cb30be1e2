"""Blob endpoints: fetching with ranges, and the three ways of pushing (spec, "Pushing blobs")."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from labkit.daemon.registry_api.errors import RegistryError
from labkit.daemon.registry_api.names import check_digest, check_name
from labkit.daemon.registry_api.uploads import Upload

if TYPE_CHECKING:
    from labkit.daemon.registry_api.app import Registry

__all__ = ["append", "begin", "cancel", "complete", "download", "remove", "status"]

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/.*)?\Z")
At = Mapping[str, str]


def _created(name: str, digest: str) -> web.Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _where(upload: Upload) -> dict[str, str]:
    return {
        "Location": f"/v2/{upload.name}/blobs/uploads/{upload.id}",
        "Range": upload.range,
        "Docker-Upload-UUID": upload.id,
    }


async def download(registry: Registry, _: web.Request, at: At) -> web.StreamResponse:
    """GET and HEAD /v2/NAME/blobs/DIGEST, ranges included (RFC 9110, 14)."""
    digest = check_digest(at["reference"])
    path = await asyncio.to_thread(registry.storage.blob, at["name"], digest)
    headers = {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000",
        "Accept-Ranges": "bytes",
    }
    return web.FileResponse(path, headers=headers)


async def remove(registry: Registry, _: web.Request, at: At) -> web.Response:
    """DELETE /v2/NAME/blobs/DIGEST."""
    registry.allow_delete()
    digest = check_digest(at["reference"])
    await asyncio.to_thread(registry.storage.remove_blob, at["name"], digest)
    return web.Response(status=202, headers={"Docker-Content-Digest": digest})


async def begin(registry: Registry, request: web.Request, at: At) -> web.Response:
    """POST /v2/NAME/blobs/uploads/: begin, or mount, or the whole blob at once."""
    name, query = at["name"], request.query
    mount, source = query.get("mount"), query.get("from")
    if mount and source:
        wanted, where = check_digest(mount), check_name(source)
        if await asyncio.to_thread(registry.storage.mount, name, wanted, where):
            return _created(name, wanted)
    digest = check_digest(query["digest"]) if "digest" in query else ""
    upload = await asyncio.to_thread(registry.uploads.begin, name)
    if not digest:
        return web.Response(status=202, headers=_where(upload))
    async with registry.uploads.held(name, upload.id):
        return await _seal(registry, request, upload, digest)


async def _seal(
    registry: Registry, request: web.Request, upload: Upload, digest: str
) -> web.Response:
    await upload.append(request.content.iter_any())
    await registry.uploads.seal(upload, digest)
    return _created(upload.name, digest)


def _check_range(request: web.Request, upload: Upload) -> None:
    """Chunks come in order. Raises RegistryError RANGE_INVALID, SIZE_INVALID."""
    header = request.headers.get("Content-Range")
    if header is None:
        return
    match = _CONTENT_RANGE.match(header.strip())
    first, last = (int(match[1]), int(match[2])) if match else (-1, -1)
    if first != upload.size or last < first:
        raise RegistryError("RANGE_INVALID", header[:64], headers=_where(upload))
    length = request.content_length
    if length is not None and length != last - first + 1:
        raise RegistryError("SIZE_INVALID", header[:64], headers=_where(upload))


async def append(registry: Registry, request: web.Request, at: At) -> web.Response:
    """PATCH /v2/NAME/blobs/uploads/ID: one chunk, or a stream of any length."""
    async with registry.uploads.held(at["name"], at["upload"]) as upload:
        _check_range(request, upload)
        await upload.append(request.content.iter_any())
        return web.Response(status=202, headers=_where(upload))


async def complete(registry: Registry, request: web.Request, at: At) -> web.Response:
    """PUT /v2/NAME/blobs/uploads/ID?digest=: the last chunk, the whole, or nothing more."""
    if "digest" not in request.query:
        raise RegistryError("DIGEST_INVALID", message="digest parameter missing")
    digest = check_digest(request.query["digest"])
    async with registry.uploads.held(at["name"], at["upload"]) as upload:
        _check_range(request, upload)
        return await _seal(registry, request, upload, digest)


async def status(registry: Registry, _: web.Request, at: At) -> web.Response:
    """GET /v2/NAME/blobs/uploads/ID: how far it came."""
    async with registry.uploads.held(at["name"], at["upload"]) as upload:
        return web.Response(status=204, headers=_where(upload))


async def cancel(registry: Registry, _: web.Request, at: At) -> web.Response:
    """DELETE /v2/NAME/blobs/uploads/ID."""
    async with registry.uploads.held(at["name"], at["upload"]) as upload:
        await asyncio.to_thread(registry.uploads.cancel, upload)
        return web.Response(status=204)
