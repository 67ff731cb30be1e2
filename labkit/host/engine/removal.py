"""Removing containers: files, records and names, in an order that a crash can interrupt.

The state `removing` is recorded first; recovery finishes what it finds in it. The container's
folder goes last but one, the row last, so nothing on the disk is ever without an owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict, LabkitError, NotFound, SystemFailure
from labkit.host.engine import networking
from labkit.host.engine.container import Container
from labkit.host.engine.events import EventLog

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["discard_files", "finish_removal", "remove"]


async def remove(
    context: Context, reference: str, *, force: bool, volumes: bool, link: bool
) -> None:
    """DELETE /containers/X."""
    if link:
        await remove_link(context, reference)
        return
    container = context.find(reference)
    if container.removing:
        raise Conflict(f"removal of container {reference} is already in progress")
    if container.state.is_running and not force:
        raise Conflict(
            f'cannot remove container "/{container.name}": {_why_not(container)}',
            hint=f"`docker stop {container.name}` first, or `docker rm -f {container.name}`",
        )
    container.removing = True
    try:
        if container.state.is_running:
            from labkit.host.engine.stopping import end_now

            await end_now(context, container)
        async with container.lock:
            if context.containers.get(container.id) is not container:
                raise NotFound(f"No such container: {reference}")
            if container.state.is_running:
                raise Conflict(
                    f'cannot remove container "/{container.name}": {_why_not(container)}'
                )
            await finish_removal(context, container, volumes=volumes)
    except BaseException:
        container.removing = False
        raise


async def remove_link(context: Context, reference: str) -> None:
    """DELETE /containers/NAME/ALIAS?link=1: the container forgets one of its links.

    Its /etc/hosts follows at the next start.
    """
    name, _, alias = reference.strip("/").partition("/")
    if not alias:
        raise Conflict("Conflict, cannot remove the default link name of the container")
    container = context.find(name)
    async with container.lock:
        links = container.host.links or ()
        kept = tuple(
            entry for entry in links if (entry.partition(":")[2] or entry).strip("/") != alias
        )
        if len(kept) == len(links):
            raise NotFound(
                f"No such link: {reference}", hint="`docker inspect` lists HostConfig.Links"
            )
        definition = replace(container.definition, host=replace(container.host, links=kept))
        await context.records.write(
            (
                "UPDATE containers SET definition = ? WHERE id = ?",
                (json.dumps(definition.to_json()), container.id),
            )
        )
        container.definition = definition


def _why_not(container: Container) -> str:
    if container.state.status == "paused":
        return "container is paused and must be unpaused first"
    return (
        f"container is {container.state.status}: stop the container before removing or force remove"
    )


async def finish_removal(context: Context, container: Container, *, volumes: bool = False) -> None:
    """Delete a container that does not run. The caller holds its lock."""
    container.removing = True
    # Not awaited yet: recovery removes what is `removing`, and also what has lost its folder.
    recorded = asyncio.ensure_future(_record_removing(context, container))
    for pending in container.pending:
        pending.abandon()
    container.pending.clear()
    try:
        try:
            await asyncio.to_thread(discard_files, context, container.id)
        finally:
            await recorded
    except (OSError, LabkitError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        await context.transit(
            container, "remove-failed", container.state.changed(error=f"removal failed: {reason}")
        )
        container.removing = False
        container.settle("removed", error=container.state.error)
        raise SystemFailure(
            f"unable to remove filesystem for {container.id}: {reason}",
            hint="try again; `docker ps -a` shows it as dead until then",
        ) from error
    event = context.events.make("container", "destroy", container.id, container.attributes())
    await context.records.write(
        ("DELETE FROM containers WHERE id = ?", (container.id,)), EventLog.write_of(event)
    )
    context.containers.pop(container.id, None)
    networking.forget(context, container.id)
    if context.names.get(container.name) == container.id:
        del context.names[container.name]
    for exec_id in container.execs:
        context.execs.pop(exec_id, None)
    context.events.publish(event)
    if volumes:
        await _remove_volumes(context, container)
    container.settle("not-running", "next-exit", "removed")


async def _record_removing(context: Context, container: Container) -> None:
    if container.state.status != "removing":
        await context.transit(container, "remove", container.state)


async def _remove_volumes(context: Context, container: Container) -> None:
    """Its anonymous volumes, unless somebody else mounts them too."""
    for mount in container.definition.mounts:
        if mount.anonymous and mount.name:
            with contextlib.suppress(LabkitError):
                await context.volumes.remove(mount.name)


def discard_files(context: Context, identifier: str) -> None:
    """The writable layer and the folder of a container; what is gone already is fine."""
    context.ports.snapshots.remove(identifier)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(context.folder(identifier))
