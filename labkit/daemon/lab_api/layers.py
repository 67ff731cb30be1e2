"""Images and containers taken apart into layers, for the layers view and for checks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aiohttp import web

from labkit.base.errors import InvalidParameter, NotFound
from labkit.daemon.call import Call, json_answer
from labkit.daemon.routing import Route, get

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab
    from labkit.host.image.layerview import LayerViews

__all__ = ["ROUTES"]

_FOLDERS_MAX = 200
_views: WeakKeyDictionary[Any, LayerViews] = WeakKeyDictionary()


def _of(lab: Lab) -> LayerViews:
    from labkit.host.image.layerview import LayerViews

    found = _views.get(lab.images)
    if found is None:
        snapshots: Any = lab.engine.context.ports.snapshots
        found = _views[lab.images] = LayerViews(lab.images, snapshots)
    return found


async def layers(call: Call[Lab]) -> web.Response:
    """GET /v1/views/layers?of=X&path=/etc&other=Y: the layers of a container or an image.

    `path`, repeated, names the folders whose content is wanted; `other` is an image to compare
    with the image X, or with the image of the container X. A container's name goes before an
    image's, as in `docker inspect`.
    """
    reference = call.text("of")
    if reference is None:
        raise InvalidParameter("no image or container was named", hint="of=busybox")
    paths = list(dict.fromkeys(call.texts("path")))[:_FOLDERS_MAX]
    views = _of(call.state)
    try:
        container = call.state.engine.context.find(reference)
    except NotFound:
        container = None
    if container is None:
        found = await asyncio.to_thread(views.of_image, reference, paths)
        compared = reference
    else:
        compared = container.definition.image_id
        found = await asyncio.to_thread(
            views.of_container, container.id, container.name, compared, paths
        )
        found["state"] = container.state.status
    other = call.text("other")
    if other is not None:
        found["other"] = await asyncio.to_thread(views.compare, compared, other)
    return json_answer(found)


ROUTES: tuple[Route, ...] = (get("/v1/views/layers", layers),)
