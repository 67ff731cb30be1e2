"""POST /containers/prune: remove what does not run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.host.engine.container import Container
from labkit.host.engine.filters import Filters, check_names, matches_labels, parse_time_ns
from labkit.host.engine.removal import remove

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["matches_prune_filters", "prune_containers"]

_FILTERS = frozenset({"until", "label", "label!"})
_AT_ONCE = 8


def matches_prune_filters(
    filters: Filters, labels: dict[str, str], created_ns: int, now_ns: int
) -> bool:
    """`until`, `label` and `label!`, as every prune takes them."""
    until = filters.get("until") or ()
    if len(until) > 1:
        raise InvalidParameter('more than one "until" filter found')
    if until and created_ns >= parse_time_ns(until[0], now_ns):
        return False
    if not matches_labels(filters.get("label", ()), labels):
        return False
    unwanted = filters.get("label!", ())
    return not unwanted or not matches_labels(unwanted, labels)


async def prune_containers(context: Context, filters: Filters | None) -> dict[str, Any]:
    """Remove every container that is not running and matches."""
    wanted = dict(filters or {})
    check_names(wanted, _FILTERS)
    now_ns = time.time_ns()
    chosen: list[Container] = [
        container
        for container in context.containers.values()
        if not container.state.is_running
        and not container.removing
        and matches_prune_filters(
            wanted, container.config.labels or {}, container.definition.created_ns, now_ns
        )
    ]
    removed: list[str] = []
    reclaimed = 0
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(container: Container) -> None:
        nonlocal reclaimed
        # One that was started or removed by somebody else meanwhile is left to him.
        async with slots:
            with contextlib.suppress(LabkitError, OSError):
                size = await asyncio.to_thread(context.ports.snapshots.size, container.id)
                await remove(context, container.id, force=False, volumes=False, link=False)
                removed.append(container.id)
                reclaimed += size

    await asyncio.gather(*(one(container) for container in chosen))
    await context.emit("container", "prune", "", {"reclaimed": str(reclaimed)})
    return {"ContainersDeleted": removed or None, "SpaceReclaimed": reclaimed}
