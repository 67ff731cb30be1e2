"""Taking up, at open, what an earlier engine left: running, ended meanwhile, or half done.

For every row: a live shim is followed again; an exit status recorded while nobody looked becomes
the container's end; a shim that was being started when the engine died is released or undone; a
container in `removing` is removed. For every folder and writable layer without a row: an
interrupted create, which is thrown away. At last restart policies are honoured.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import time
from typing import TYPE_CHECKING

from labkit.base.errors import LabkitError
from labkit.host.engine import execs, networking, restarting, specs
from labkit.host.engine.container import Container, Definition, State
from labkit.host.engine.forwarding import start_forwarding
from labkit.host.engine.health import start_health
from labkit.host.engine.ports import ExitLike
from labkit.host.engine.records import StoredContainer
from labkit.host.engine.removal import discard_files, finish_removal
from labkit.host.engine.runtimes import runtime_of
from labkit.host.engine.starting import ended, launch, shim_folder, watch
from labkit.host.engine.states import Change

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["recover"]

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_LOG = logging.getLogger("labkit.engine")


async def recover(context: Context) -> None:
    """Bring memory, records, files and processes into agreement."""
    stored = context.records.load_containers()
    for row in stored:
        container = _loaded(row)
        context.containers[container.id] = container
        context.names[container.name] = container.id
    await context.networks.open()
    await asyncio.to_thread(_discard_orphans, context)
    folders = await asyncio.to_thread(_scan, context)
    running_execs = context.records.load_execs()
    await asyncio.gather(
        *(
            _recover_one(context, container, folders.get(container.id))
            for container in tuple(context.containers.values())
        )
    )
    await asyncio.to_thread(_discard_groups, context)
    for body in running_execs:
        await execs.take_up(context, body)
    for identifier, names in folders.items():
        await _discard_execs(context, identifier, names)
    context.spawn(asyncio.to_thread(specs.warm_up), "warm up")
    for container in tuple(context.containers.values()):
        if _should_start(container):
            context.spawn(_start(context, container), f"start {container.name}")


def _loaded(row: StoredContainer) -> Container:
    container = Container(Definition.from_json(row.definition), row.name, State(**row.state))
    for state, at_ns, action in row.history:
        container.history.append(Change(state, at_ns, action))  # type: ignore[arg-type]
    return container


def _discard_orphans(context: Context) -> None:
    """Folders and layers of containers whose creation was not recorded."""
    folders = {entry.name for entry in (context.data / "containers").iterdir()}
    for identifier in folders.union(context.ports.snapshots.containers()):
        if identifier not in context.containers:
            _LOG.info("discarding a half-made container %s", identifier[:12])
            with contextlib.suppress(OSError, LabkitError):
                discard_files(context, identifier)


def _scan(context: Context) -> dict[str, set[str]]:
    """What lies in each container's folder."""
    base = context.data / "containers"
    return {entry.name: set(os.listdir(entry)) for entry in base.iterdir() if entry.is_dir()}


async def _discard_execs(context: Context, identifier: str, names: set[str]) -> None:
    """Execs whose start was not recorded: nobody was told that they run, so they end."""
    container = context.containers.get(identifier)
    known = set() if container is None else {execs.folder_name(key) for key in container.execs}
    for name in names - known:
        if name.startswith(execs.FOLDER_PREFIX):
            folder = context.folder(identifier) / name
            found = await context.ports.runtime.recover(folder)
            if not isinstance(found, ExitLike):
                with contextlib.suppress(OSError, LabkitError):
                    await found.signal(9)
                await found.cleanup()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _discard_groups(context: Context) -> None:
    """Control groups made for a start that never got as far as a shim."""
    groups = context.ports.runtime.cgroups
    live = {item.id for item in context.containers.values() if item.state.is_live}
    for name in groups.names():
        # Boxes have groups in the same place, under names that are no container ids.
        if _CONTAINER_ID.fullmatch(name) and name not in live:
            _LOG.info("discarding the control group of container %s", name[:12])
            groups.open(name).remove()


async def _recover_one(context: Context, container: Container, names: set[str] | None) -> None:
    """`names` is what lies in the container's folder, None when that is gone."""
    try:
        async with container.lock:
            if names is None or container.state.status in ("removing", "dead"):
                await finish_removal(context, container)
            else:
                await _recover_process(context, container, has_shim="shim" in names)
                # The engine may have died between recording the end and the removal.
                is_left = container.host.auto_remove and container.state.status == "exited"
                if is_left and container.id in context.containers:
                    await finish_removal(context, container, volumes=True)
    except (LabkitError, OSError) as error:
        _LOG.warning("recovering container %s: %s", container.name, error)


async def _recover_process(context: Context, container: Container, *, has_shim: bool) -> None:
    folder = shim_folder(context, container.id)
    if not has_shim:
        if container.state.is_live:
            await ended(context, container, None, _Lost())
        return
    found = await runtime_of(context, container.host.runtime).recover(folder)
    if isinstance(found, ExitLike):
        if container.state.is_live:
            await ended(context, container, None, found)
        else:
            # The start was never recorded, so nobody was told that it ran.
            await networking.leave(context, container)
            await asyncio.to_thread(_forget, context, container)
        return
    # First of all, so that `close` lets go of it whatever happens next.
    container.shim = found
    container.exited.clear()
    try:
        await networking.take_up(context, container, found)
    except (LabkitError, OSError) as error:
        _LOG.warning("the network of container %s: %s", container.name, error)
    if not container.state.is_live:
        await found.release()
        state = container.state.changed(
            pid=found.init_pid,
            exit_code=0,
            error="",
            started_at_ns=found.started_at_ns or time.time_ns(),
        )
        event = context.events.make("container", "start", container.id, container.attributes())
        await context.transit(container, "start", state, events=(event,))
    container.watcher = context.spawn(watch(context, container, found), f"watch {container.name}")
    start_health(context, container, resumed=True)
    start_forwarding(context, container)


def _forget(context: Context, container: Container) -> None:
    shutil.rmtree(shim_folder(context, container.id), ignore_errors=True)


class _Lost:
    """The end of a process of which nothing is left, not even its shim's folder."""

    code = 137
    oom_killed = False
    error = "the container's processes and their records are gone"

    @property
    def finished_at_ns(self) -> int:
        return time.time_ns()


def _should_start(container: Container) -> bool:
    if container.state.status == "restarting":
        return True
    return container.state.status == "exited" and restarting.on_engine_start(
        container.host.restart_policy, container.state
    )


async def _start(context: Context, container: Container) -> None:
    async with container.lock:
        if container.state.status in ("exited", "restarting"):
            with contextlib.suppress(LabkitError):
                await launch(context, container, again=container.state.status == "restarting")
