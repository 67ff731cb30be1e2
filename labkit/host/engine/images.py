"""Image endpoints: the image store's answers, with events and with what containers use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import SystemFailure, Unauthorized
from labkit.host.engine.filters import Filters
from labkit.host.image.pull import PullOptions
from labkit.host.image.pull import pull as default_pull
from labkit.host.image.reference import parse
from labkit.host.image.registry.credentials import options_from_auth

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["disk_errors", "history", "inspect", "prune", "pull", "remove", "summaries", "tag"]

Json = dict[str, Any]

_MAKE_ROOM = "free some space, for example with docker system prune"


def _users(context: Context, *, running: bool) -> Any:
    """A function from an image's id to the containers made from it."""
    found: dict[str, list[str]] = {}
    for container in context.containers.values():
        if container.state.is_running or not running:
            found.setdefault(container.definition.image_id, []).append(container.id)
    return lambda image_id: found.get(image_id, [])


async def summaries(context: Context, *, all_images: bool, filters: Filters | None) -> list[Json]:
    """GET /images/json."""
    store = context.ports.images
    in_use = _users(context, running=False)

    def collect() -> list[Json]:
        return [
            store.summary(image, containers=len(in_use(image.id)))
            for image in store.images(all=all_images, filters=filters or {})
        ]

    return await asyncio.to_thread(collect)


async def inspect(context: Context, reference: str) -> Json:
    """GET /images/X/json."""
    found: Json = await asyncio.to_thread(context.ports.images.inspect, reference)
    return found


async def history(context: Context, reference: str) -> list[Json]:
    """GET /images/X/history."""
    found: list[Json] = await asyncio.to_thread(context.ports.images.history, reference)
    return found


async def tag(context: Context, source: str, repository: str, tag_name: str) -> None:
    """POST /images/X/tag."""
    target = f"{repository}:{tag_name}" if tag_name else repository
    await asyncio.to_thread(context.ports.images.tag, source, target)
    image = await asyncio.to_thread(context.ports.images.get, target)
    await context.emit("image", "tag", image.id, {**image.labels, "name": target})


async def remove(context: Context, reference: str, *, force: bool, noprune: bool) -> list[Json]:
    """DELETE /images/X."""
    image = await asyncio.to_thread(context.ports.images.get, reference)
    rows: list[Json] = await asyncio.to_thread(
        lambda: context.ports.images.remove(
            reference,
            force=force,
            prune=not noprune,
            in_use=_users(context, running=False),
            running=_users(context, running=True),
        )
    )
    await _tell(context, image.id, rows)
    return rows


async def _tell(context: Context, image_id: str, rows: list[Json]) -> None:
    for row in rows:
        if "Untagged" in row:
            await context.emit("image", "untag", image_id, {"name": row["Untagged"]})
        elif "Deleted" in row:
            await context.emit("image", "delete", row["Deleted"], {"name": row["Deleted"]})


async def prune(context: Context, filters: Filters | None) -> Json:
    """POST /images/prune; `dangling=false` takes every image no container uses."""
    wanted = {name: list(values) for name, values in (filters or {}).items()}
    values = wanted.pop("dangling", ["true"])
    dangling = values[-1:] not in (["false"], ["0"])
    found: Json = await asyncio.to_thread(
        lambda: context.ports.images.prune(
            dangling=dangling, filters=wanted, in_use=_users(context, running=False)
        )
    )
    await _tell(context, "", list(found.get("ImagesDeleted") or ()))
    await context.emit("image", "prune", "", {"reclaimed": str(found.get("SpaceReclaimed", 0))})
    return found


async def pull(
    context: Context,
    reference: str,
    *,
    platform: str,
    auth: Mapping[str, Any] | None,
    all_tags: bool = False,
) -> AsyncIterator[Json]:
    """POST /images/create: progress lines, then the events.

    With `all_tags` the reference is a repository, and every tag of it is pulled.
    """
    options = PullOptions(
        platform=platform, registry=options_from_auth(auth or {}), all_tags=all_tags
    )
    pull_image = context.ports.pull or default_pull
    store = context.ports.images
    try:
        with disk_errors(f"pull {reference}"):
            async for line in pull_image(store, reference, options=options):
                yield line
    except Unauthorized as error:
        # As dockerd: at a 401 the client would ask for a password and try again.
        raise SystemFailure(error.message, hint=error.hint) from error
    parsed = parse(reference)
    name = parsed.familiar_name if all_tags else parsed.with_default_tag().familiar
    labels = {} if all_tags else (await asyncio.to_thread(store.get, reference)).labels
    await context.emit("image", "pull", name, {**labels, "name": parsed.familiar_name})


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """What the disk says in the middle of a stream becomes an error that the stream can carry."""
    try:
        yield
    except OSError as error:
        words = (os.strerror(error.errno) if error.errno else str(error)).lower()
        raise SystemFailure(f"{what}: {words}", hint=_MAKE_ROOM) from error
    except sqlite3.Error as error:
        raise SystemFailure(f"{what}: the image index: {error}", hint=_MAKE_ROOM) from error
