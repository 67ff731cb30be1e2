"""What the engine asks of registries besides pulling: push, inspect from afar, search."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, NotFound, Unavailable
from labkit.host.engine.filters import Filters
from labkit.host.engine.images import disk_errors
from labkit.host.image import sources
from labkit.host.image.reference import DEFAULT_DOMAIN, Reference, parse
from labkit.host.image.registry.credentials import options_from_auth

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["distribution", "manifest", "push", "search"]

Json = dict[str, Any]

_SEARCH_LIMIT = 25
_SEARCH_LIMIT_MAX = 100
_SEARCH_FILTERS = ("is-automated", "is-official", "stars")


async def push(
    context: Context, name: str, tag: str, *, auth: Mapping[str, Any]
) -> AsyncIterator[Json]:
    """POST /images/NAME/push: Docker's lines; without a tag, every tag of the repository."""
    from labkit.host.image.registry.upload import push as upload

    parsed = parse(name)
    if tag:
        parsed = parsed.with_tag(tag)
    options = options_from_auth(auth)
    with disk_errors(f"push {parsed.familiar}"):
        async for line in upload(context.ports.images, str(parsed), options=options):
            yield line
    await context.emit("image", "push", parsed.familiar, {"name": parsed.familiar_name})


async def distribution(context: Context, reference: str, *, auth: Mapping[str, Any]) -> Json:
    """GET /distribution/NAME/json: what the registry has, without pulling it.

    For a stand-in, which no registry has, the image that is here answers.
    """
    parsed = parse(reference).with_default_tag()
    options = options_from_auth(auth)
    offline = sources.state().source == "stand-in" and not options.mirrors
    if parsed.domain == DEFAULT_DOMAIN and offline:
        return await asyncio.to_thread(_from_store, context, parsed)
    from labkit.host.image.registry.client import RegistryClient
    from labkit.host.image.registry.manifests import describe

    try:
        async with RegistryClient(parsed, options) as client:
            return await describe(client, parsed.digest or parsed.tag)
    except NotFound as error:
        # Docker's daemon does not name the image here.
        _, _, why = error.message.partition(" not found: ")
        raise NotFound(why or error.message, hint=error.hint) from error
    except Unavailable:
        if parsed.domain != DEFAULT_DOMAIN:
            raise
        sources.remember("stand-in", "docker.io cannot be reached")
        return await asyncio.to_thread(_from_store, context, parsed)


async def manifest(
    reference: str, *, auth: Mapping[str, Any], insecure: bool = False
) -> tuple[str, bytes]:
    """(media type, bytes) of a manifest or a list of manifests as its registry keeps it.

    `insecure` allows plain HTTP and unknown certificates for this question.

    Raises NotFound, Unauthorized, Unavailable.
    """
    from labkit.host.image.registry.client import RegistryClient
    from labkit.host.image.registry.manifests import kind_of

    parsed = parse(reference).with_default_tag()
    options = options_from_auth(auth)
    if insecure:
        options = replace(options, insecure=(*options.insecure, parsed.domain))
    async with RegistryClient(parsed, options) as client:
        found = await client.manifest(parsed.digest or parsed.tag)
        return kind_of(found), found.data


def _from_store(context: Context, parsed: Reference) -> Json:
    store = context.ports.images
    image_id = store.find_id(str(parsed))
    if image_id is None:
        raise NotFound(
            f"manifest for {parsed.familiar} not found: no registry can be reached",
            hint=f"docker pull {parsed.familiar} builds a stand-in, which then answers",
        )
    for digest, role, media_type in store.index.image_blobs(image_id):
        if role == "manifest":
            data = store.blobs.read(digest)
            config = store.config_of(image_id)
            keys = ("architecture", "os", "variant")
            platform = {key: config[key] for key in keys if config.get(key)}
            descriptor = {"mediaType": media_type, "digest": digest, "size": len(data)}
            return {"Descriptor": descriptor, "Platforms": [platform]}
    raise NotFound(f"{parsed.familiar} was built here and has no manifest of a registry")


def search(term: str, limit: int | None, filters: Filters | None) -> list[Json]:
    """GET /images/search, answered from the local catalog: what this lab can pull offline.

    Raises InvalidParameter with Docker's sentences.
    """
    from labkit.host.image.catalog import Catalog

    wanted = filters or {}
    for key in wanted:
        if key not in _SEARCH_FILTERS:
            raise InvalidParameter(f"invalid filter '{key}'")
    most = _SEARCH_LIMIT if limit is None or limit == 0 else limit
    if not 1 <= most <= _SEARCH_LIMIT_MAX:
        raise InvalidParameter(f"limit {most} is outside the range of [1, {_SEARCH_LIMIT_MAX}]")
    official = _flag(wanted, "is-official")
    automated = _flag(wanted, "is-automated")
    stars = _stars(wanted)
    if official is False or automated or stars > 0:
        return []
    word = term.strip().lower()
    entries = [one for one in Catalog().entries() if word in f"{one.name} {one.summary}".lower()]
    # As in Docker Hub's answers, the nearest name comes first.
    entries.sort(key=lambda one: (one.name != word, not one.name.startswith(word), one.name))
    return [
        {
            "star_count": 0,
            "is_official": True,
            "name": one.name,
            "is_automated": False,
            "description": f"stand-in: {one.summary}",
        }
        for one in entries[:most]
    ]


def _flag(filters: Filters, key: str) -> bool | None:
    values = filters.get(key)
    if not values:
        return None
    if values[-1] not in ("true", "false", "1", "0"):
        raise InvalidParameter(f"invalid filter '{key}={values[-1][:40]}'")
    return values[-1] in ("true", "1")


def _stars(filters: Filters) -> int:
    values = filters.get("stars") or ["0"]
    if not values[-1].isdecimal():
        raise InvalidParameter(f"invalid filter 'stars={values[-1][:40]}'")
    return int(values[-1][:9])
