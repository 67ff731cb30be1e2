"""Image endpoints: the image store's answers, with events and with what containers use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from labkit.host.engine.filters import Filters
from labkit.host.image.pull import PullOptions
from labkit.host.image.pull import pull as default_pull

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["history", "inspect", "prune", "pull", "remove", "summaries", "tag"]

Json = dict[str, Any]

_LOG = logging.getLogger("labkit.engine")


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
) -> AsyncIterator[Json]:
    """POST /images/create: progress lines, then the event."""
    if auth:
        # Credentials for registries come with the registry client; the catalog needs none.
        _LOG.debug("pull %s: credentials are not used", reference)
    options = PullOptions(platform=platform)
    pull_image = context.ports.pull or default_pull
    async for line in pull_image(context.ports.images, reference, options=options):
        yield line
    image = await asyncio.to_thread(context.ports.images.get, reference)
    await context.emit("image", "pull", reference, {**image.labels, "name": reference})
