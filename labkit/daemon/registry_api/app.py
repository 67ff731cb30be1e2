"""Requests and answers of the distribution specification 1.1 over one Storage."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from labkit.daemon.registry_api import blobs
from labkit.daemon.registry_api.accounts import Accounts
from labkit.daemon.registry_api.documents import INDEX, MANIFEST_BYTES_MAX
from labkit.daemon.registry_api.errors import RegistryError
from labkit.daemon.registry_api.names import check_digest, check_name
from labkit.daemon.registry_api.storage import Storage, page
from labkit.daemon.registry_api.uploads import Uploads

__all__ = ["Registry", "build_registry_app"]

_LOG = logging.getLogger("labkit.registry")
_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_PAGE = 100
_PAGE_MAX = 1000

Handler = Callable[["Registry", web.Request, Mapping[str, str]], Awaitable[web.StreamResponse]]


class Registry:
    """What the handlers work with."""

    def __init__(self, storage: Storage, *, accounts: Accounts | None, can_delete: bool) -> None:
        self.storage = storage
        self.uploads = Uploads(storage)
        self.accounts = accounts
        self.can_delete = can_delete

    def allow_delete(self) -> None:
        """Raises RegistryError UNSUPPORTED where deleting is switched off."""
        if not self.can_delete:
            raise RegistryError("UNSUPPORTED")


def _json(
    value: Any, headers: Mapping[str, str] | None = None, kind: str = "application/json"
) -> web.Response:
    body = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    return web.Response(body=body, headers={"Content-Type": kind, **(headers or {})})


async def _ping(_: Registry, __: web.Request, ___: Mapping[str, str]) -> web.Response:
    return _json({})


# -- lists ---------------------------------------------------------------------------------------


def _limit(request: web.Request, default: int, most: int) -> int:
    text = request.query.get("n")
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
        raise RegistryError("PAGINATION_NUMBER_INVALID", {"n": text[:32]})
    return int(text)


def _listed(request: web.Request, words: list[str], default: int, most: int) -> Any:
    """One page of a list, and the Link header that leads to the next (RFC 5988)."""
    limit = _limit(request, default, most)
    found, more = page(words, request.query.get("last", ""), limit)
    if not (more and found):
        return found, {}
    query = urlencode({"n": limit, "last": found[-1]})
    return found, {"Link": f'<{request.rel_url.raw_path}?{query}>; rel="next"'}


async def _catalog(registry: Registry, request: web.Request, _: Mapping[str, str]) -> web.Response:
    words = await asyncio.to_thread(registry.storage.repositories)
    found, headers = _listed(request, words, _PAGE, _PAGE_MAX)
    return _json({"repositories": found}, headers)


async def _tags(registry: Registry, request: web.Request, at: Mapping[str, str]) -> web.Response:
    words = await asyncio.to_thread(registry.storage.tags, at["name"])
    found, headers = _listed(request, words, len(words), 1 << 30)
    return _json({"name": at["name"], "tags": found}, headers)


async def _referrers(
    registry: Registry, request: web.Request, at: Mapping[str, str]
) -> web.Response:
    digest = check_digest(at["reference"])
    found = await asyncio.to_thread(registry.storage.referrers, at["name"], digest)
    headers = {}
    wanted = request.query.get("artifactType")
    if wanted:
        found = [item for item in found if item.get("artifactType") == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    return _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}, headers, INDEX)


# -- manifests -----------------------------------------------------------------------------------


async def _get_manifest(
    registry: Registry, request: web.Request, at: Mapping[str, str]
) -> web.Response:
    digest, kind, data = await asyncio.to_thread(
        registry.storage.manifest, at["name"], at["reference"]
    )
    headers = {"Content-Type": kind, "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
    if digest in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, headers=headers)


async def _put_manifest(
    registry: Registry, request: web.Request, at: Mapping[str, str]
) -> web.Response:
    data = bytearray()
    async for piece in request.content.iter_any():
        data += piece
        if len(data) > MANIFEST_BYTES_MAX:
            raise RegistryError("MANIFEST_INVALID", "the manifest is too large", status=413)
    digest, subject = await asyncio.to_thread(
        registry.storage.put_manifest,
        at["name"],
        at["reference"],
        bytes(data),
        request.headers.get("Content-Type", ""),
    )
    headers = {
        "Location": f"/v2/{at['name']}/manifests/{digest}",
        "Docker-Content-Digest": digest,
    }
    if subject is not None:
        headers["OCI-Subject"] = subject
    return web.Response(status=201, headers=headers)


async def _delete_manifest(
    registry: Registry, _: web.Request, at: Mapping[str, str]
) -> web.Response:
    registry.allow_delete()
    await asyncio.to_thread(registry.storage.remove_manifest, at["name"], at["reference"])
    return web.Response(status=202)


# -- the table -----------------------------------------------------------------------------------

_ROUTES: tuple[tuple[re.Pattern[str], Mapping[str, Handler]], ...] = tuple(
    (re.compile(pattern + r"\Z", re.DOTALL), handlers)
    for pattern, handlers in (
        (r"/v2/?", {"GET": _ping}),
        (r"/v2/_catalog", {"GET": _catalog}),
        (r"/v2/(?P<name>.+)/tags/list", {"GET": _tags}),
        (r"/v2/(?P<name>.+)/referrers/(?P<reference>[^/]+)", {"GET": _referrers}),
        (
            r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)",
            {"GET": _get_manifest, "PUT": _put_manifest, "DELETE": _delete_manifest},
        ),
        (r"/v2/(?P<name>.+)/blobs/uploads/?", {"POST": blobs.begin}),
        (
            r"/v2/(?P<name>.+)/blobs/uploads/(?P<upload>[^/]+)",
            {
                "GET": blobs.status,
                "PATCH": blobs.append,
                "PUT": blobs.complete,
                "DELETE": blobs.cancel,
            },
        ),
        (
            r"/v2/(?P<name>.+)/blobs/(?P<reference>[^/]+)",
            {"GET": blobs.download, "DELETE": blobs.remove},
        ),
    )
)


def _find(request: web.Request) -> tuple[Handler, Mapping[str, str]]:
    for pattern, handlers in _ROUTES:
        match = pattern.match(request.path)
        if match is None:
            continue
        # HEAD is GET without its body, everywhere.
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise RegistryError("UNSUPPORTED", headers={"Allow": ", ".join(handlers)})
        variables = match.groupdict()
        if "name" in variables:
            check_name(variables["name"])
        return handler, variables
    raise RegistryError("UNSUPPORTED", message="page not found", status=404)


async def _answer(registry: Registry, request: web.Request) -> web.StreamResponse:
    if registry.accounts is not None:
        header = request.headers.get("Authorization", "")
        if not await registry.accounts.is_allowed(header):
            challenge = {"WWW-Authenticate": registry.accounts.challenge}
            raise RegistryError("UNAUTHORIZED", headers=challenge)
    handler, variables = _find(request)
    return await handler(registry, request, variables)


def _refusal(error: RegistryError) -> web.Response:
    headers = {"Content-Type": "application/json", **error.headers}
    return web.Response(status=error.status, body=error.body(), headers=headers)


def build_registry_app(
    storage: Storage, *, accounts: Accounts | None = None, can_delete: bool = True
) -> web.Application:
    """The application that serves one registry folder."""
    registry = Registry(storage, accounts=accounts, can_delete=can_delete)

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            response = await _answer(registry, request)
        except RegistryError as error:
            response = _refusal(error)
        except ConnectionError:
            raise
        except OSError as error:
            _LOG.exception("%s %s failed", request.method, request.path)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "no space left on the registry's disk" if full else str(error.strerror)
            response = _refusal(RegistryError("UNKNOWN", why))
        _LOG.info("%s %s %d", request.method, request.path_qs, response.status)
        return response

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        for name, value in _VERSION.items():
            response.headers.setdefault(name, value)

    async def sweep(_: web.Application) -> None:
        await asyncio.to_thread(registry.uploads.sweep)

    app = web.Application()
    app.router.add_route("*", r"/{tail:[\s\S]*}", serve)
    app.on_response_prepare.append(add_headers)
    app.on_startup.append(sweep)
    return app
