"""`docker pull` as a stream of the lines Docker sends while it works.

Where an image comes from is decided in this order and said aloud:

1. a name with a registry in it (`127.0.0.1:5000/x`, `ghcr.io/x`) is asked of that registry only;
2. `LABKIT_OFFLINE=1` makes official names stand-ins without asking anybody;
3. otherwise docker.io (or its mirrors) is asked; when no registry answers within two seconds the
   catalog builds a stand-in, and that answer is remembered for a minute.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.base.errors import (
    InvalidParameter,
    LabkitError,
    NotFound,
    Unavailable,
    Unsupported,
)
from labkit.base.ids import short_id
from labkit.host.image import bundles, sources
from labkit.host.image.catalog import REFUSED, Built, BuiltLayer, Catalog, CatalogEntry
from labkit.host.image.reference import DEFAULT_DOMAIN, DEFAULT_TAG, Reference, parse
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.standins.machine import architecture
from labkit.host.image.store import ImageStore

__all__ = ["PullOptions", "pull"]


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What a pull asks for besides a name."""

    platform: str = ""
    """`linux/arm64/v8` …; this machine's own when empty."""
    offline: bool = field(default_factory=lambda: os.environ.get("LABKIT_OFFLINE") == "1")
    registry: RegistryOptions = field(default_factory=RegistryOptions)
    all_tags: bool = False
    """Every tag of the repository; the reference has none then."""


_CATALOG = Catalog()


async def pull(
    store: ImageStore,
    reference: str,
    *,
    options: PullOptions | None = None,
    catalog: Catalog = _CATALOG,
) -> AsyncIterator[dict[str, Any]]:
    """Pull `reference`, yielding Docker's JSON progress lines.

    Before the first line: InvalidParameter, NotFound (Docker's `pull access denied for …`) or
    Unavailable. Later failures raise too; the API puts them into the stream as `error`.
    """
    options = options or PullOptions()
    parsed = parse(reference).with_default_tag()
    entry = catalog.resolve(parsed)
    if parsed.domain != DEFAULT_DOMAIN:
        async for line in _download(store, parsed, options):
            yield line
        return
    known = sources.state(options.offline)
    if known.source == "stand-in" and not options.registry.mirrors:
        async for line in _stand_in(store, parsed, entry, options, catalog, known.why):
            yield line
        return
    begun = False
    try:
        async for line in _download(store, parsed, options):
            begun = True
            yield line
    except Unavailable:
        if begun:
            raise
        why = "docker.io cannot be reached"
        sources.remember("stand-in", why)
    else:
        sources.remember("registry", "docker.io answers")
        return
    async for line in _stand_in(store, parsed, entry, options, catalog, why):
        yield line


def _download(
    store: ImageStore, reference: Reference, options: PullOptions
) -> AsyncIterator[dict[str, Any]]:
    # aiohttp's client costs memory
    from labkit.host.image.registry.download import download, download_all

    work = download_all if options.all_tags else download
    return work(store, reference, options.registry, options.platform)


def _denied(reference: Reference, catalog: Catalog) -> LabkitError:
    why = REFUSED.get(reference.path.removeprefix("library/"))
    if why is not None:
        return Unsupported(
            f"no stand-in for {reference.familiar_name} can be built: {why}",
            hint="with a network docker pull fetches the real image; without one, "
            "labkit images load-bundle FILE brings it from a machine that has it",
        )
    return NotFound(
        f"pull access denied for {reference.familiar_name}, repository does not exist or may "
        "require 'docker login': denied: requested access to the resource is denied",
        hint="no registry can be reached; this lab can build: " + ", ".join(catalog.names()),
    )


async def _pinned(
    store: ImageStore, reference: Reference, catalog: Catalog
) -> AsyncIterator[dict[str, Any]]:
    """A stand-in by digest: another host of this lab that built it pinned it, so build and see."""
    fresh = store.find_id(str(reference)) is None
    if fresh:
        entry = catalog.resolve(replace(reference, digest="", tag=DEFAULT_TAG))
        built = None
        if entry is not None:
            built = await asyncio.to_thread(catalog.build, entry, store)
        if built is None or built.manifest_digest != reference.digest:
            raise NotFound(
                f"manifest for {reference.familiar} not found: manifest unknown: manifest unknown",
                hint="a stand-in cannot have the digest of the real image; pull it by tag",
            )
        yield {"status": f"Pulling from {reference.path}", "id": reference.digest}
        for line in _layer_lines(built):
            yield line
        await asyncio.to_thread(_name, store, reference, built)
        yield {"status": f"Digest: {reference.digest}"}
    words = "Downloaded newer image" if fresh else "Image is up to date"
    yield {"status": f"Status: {words} for {reference.familiar}"}


async def _stand_in(
    store: ImageStore,
    reference: Reference,
    entry: CatalogEntry | None,
    options: PullOptions,
    catalog: Catalog,
    why: str,
) -> AsyncIterator[dict[str, Any]]:
    """Build the stand-in and speak as a pull does."""
    if reference.digest:
        async for line in _pinned(store, reference, catalog):
            yield line
        return
    kept = await asyncio.to_thread(bundles.find, reference)
    if kept is not None:
        async for line in _from_bundle(store, reference, kept, why):
            yield line
        return
    if entry is None:
        raise _denied(reference, catalog)
    _check_platform(options.platform)
    yield {"status": f"Pulling from {reference.path}", "id": reference.tag}
    before = store.find_id(str(reference))
    task = asyncio.ensure_future(asyncio.to_thread(catalog.build, entry, store))
    try:
        built = await asyncio.shield(task)
    except asyncio.CancelledError:
        # A thread cannot be stopped; what it stores is found again by the next pull.
        task.add_done_callback(_retrieve)
        raise
    fresh = before != built.image_id
    if fresh:
        for line in _layer_lines(built):
            yield line
    await asyncio.to_thread(_name, store, reference, built)
    yield {"status": _stand_in_sentence(reference, built, why)}
    yield {"status": f"Digest: {built.manifest_digest}"}
    words = "Downloaded newer image" if fresh else "Image is up to date"
    yield {"status": f"Status: {words} for {reference.familiar}"}


async def _from_bundle(
    store: ImageStore, reference: Reference, kept: dict[str, Any], why: str
) -> AsyncIterator[dict[str, Any]]:
    """An image that `labkit images load-bundle` brought here."""
    yield {"status": f"Pulling from {reference.path}", "id": reference.tag}
    fresh = store.find_id(str(reference)) != kept["config"]
    built = await asyncio.to_thread(bundles.restore, store, kept)
    if fresh:
        for line in _layer_lines(built):
            yield line
    await asyncio.to_thread(_name, store, reference, built)
    yield {"status": f"Bundle: {why}; this image comes from the bundle that was loaded here"}
    yield {"status": f"Digest: {built.manifest_digest}"}
    words = "Downloaded newer image" if fresh else "Image is up to date"
    yield {"status": f"Status: {words} for {reference.familiar}"}


def _stand_in_sentence(reference: Reference, built: Built, why: str) -> str:
    tag = "" if reference.tag == DEFAULT_TAG else f" (the same for every tag, {reference.tag} too)"
    return (
        f"Stand-in: {why}, so this is not the image of that name from docker.io but one built on "
        f"this machine{tag}: {built.summary}"
    )


def _layer_lines(built: Built) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for word in ("Pulling fs layer", "Downloading", "Download complete", "Extracting"):
        lines += [_layer_line(layer, word) for layer in built.layers]
    return lines + [_layer_line(layer, "Pull complete") for layer in built.layers]


def _layer_line(layer: BuiltLayer, word: str) -> dict[str, Any]:
    detail = {"current": layer.size, "total": layer.size}
    moving = word in ("Downloading", "Extracting")
    return {
        "status": word,
        "progressDetail": detail if moving else {},
        "id": short_id(layer.digest),
    }


def _name(store: ImageStore, reference: Reference, built: Built) -> None:
    with store.lock, store.index.transaction():
        store.index.set_digest(reference.name, built.manifest_digest, built.image_id)
        if reference.tag:
            store.set_tag(reference, built.image_id)


def _check_platform(platform: str) -> None:
    if not platform:
        return
    parts = platform.split("/")
    if len(parts) > 3 or not all(parts):
        raise InvalidParameter(
            f'"{platform}": invalid platform format', hint="write it as linux/amd64"
        )
    here = architecture()
    asked = parts[1] if len(parts) > 1 else parts[0]
    if parts[0] not in ("linux", here) or (asked not in ("linux", here)):
        raise NotFound(
            f"no matching manifest for {platform} in the manifest list entries",
            hint=f"stand-ins exist for this machine only: linux/{here}",
        )


def _retrieve(task: asyncio.Future[Built]) -> None:
    """An abandoned build's error has nobody left to hear it."""
    if not task.cancelled():
        task.exception()
