"""POST /commit and POST /images/create?fromSrc: images from a container or from a tar."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, Unsupported
from labkit.host.engine import lifecycle
from labkit.host.engine.changewords import with_changes
from labkit.host.engine.config import ContainerConfig, merged
from labkit.host.engine.container import Container
from labkit.host.engine.wire import read, write
from labkit.host.image.reference import Reference
from labkit.host.image.reference import parse as parse_reference
from labkit.host.image.tarread import ByteSource

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["CommitOptions", "commit", "import_image"]

Json = dict[str, Any]

# What belongs to one container and means nothing in an image.
_CONTAINERS_OWN = ("Hostname", "Domainname", "Image", "MacAddress", "NetworkDisabled")


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """The query of POST /commit. `repository` empty makes an image without a name."""

    repository: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    changes: Sequence[str] = ()
    pause: bool = True


def _named(repository: str, tag: str) -> Reference | None:
    if not repository:
        return None
    found = parse_reference(f"{repository}:{tag}" if tag else repository)
    if found.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return found if found.tag else parse_reference(f"{repository}:latest")


async def commit(
    context: Context, reference: str, options: CommitOptions, body: Mapping[str, Any]
) -> Json:
    """`{"Id"}` of an image of the container's image, its changes, and `options.changes`.

    `body`, when it says anything, is a Config that overrules the container's own.
    """
    from labkit.host.image.commit import commit as commit_layer

    container = context.find(reference)
    if container.removing or container.state.status in ("removing", "dead"):
        word = "Dead" if container.state.status == "dead" else "being removed"
        raise Conflict(f"You cannot commit container {container.id} which is {word}")
    named = _named(options.repository, options.tag)
    own = read(ContainerConfig, body) if body else ContainerConfig()
    config = with_changes(write(merged(own, container.config)), options.changes)
    defaults = {key: value for key, value in config.items() if key not in _CONTAINERS_OWN}
    ports = context.ports
    async with _paused(context, container, wanted=options.pause):
        image = await asyncio.to_thread(ports.images.get, container.definition.image_id)
        made: str = await asyncio.to_thread(
            lambda: commit_layer(
                ports.images,
                ports.snapshots,  # type: ignore[arg-type]
                container.id,
                image,
                defaults=defaults,
                created_by=" ".join(container.config.cmd or ()),
                comment=options.comment,
                author=options.author,
                reference=named,
            )
        )
    shown = named.familiar if named else ""
    await context.container_event(
        container, "commit", comment=options.comment, imageID=made, imageRef=shown
    )
    return {"Id": made}


@asynccontextmanager
async def _paused(context: Context, container: Container, *, wanted: bool) -> AsyncIterator[None]:
    """Keep the container still, if it moves at all."""
    held = wanted and container.state.status == "running"
    if held:
        try:
            await lifecycle.pause(context, container.id)
        except Unsupported:
            held = False  # without a freezer it is committed as it runs, as with --pause=false
    try:
        yield
    finally:
        if held:
            # It may have ended, or been unpaused by somebody else, meanwhile.
            with contextlib.suppress(LabkitError):
                await lifecycle.unpause(context, container.id)


async def import_image(
    context: Context,
    source: ByteSource,
    *,
    repository: str = "",
    tag: str = "",
    message: str = "",
    changes: Sequence[str] = (),
) -> str:
    """The id of an image with one layer, the tar `source` (compressed or not)."""
    from labkit.host.image.commit import import_image as import_layer

    named = _named(repository, tag)
    defaults = with_changes({}, changes)
    made = await asyncio.to_thread(
        lambda: import_layer(
            context.ports.images, source, reference=named, message=message, defaults=defaults
        )
    )
    await context.emit("image", "import", made, {"name": named.familiar if named else made})
    return made
