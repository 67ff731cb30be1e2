"""From a recorded container to a running process, and from its end back to the records."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.host.engine import networking, restarting, specs
from labkit.host.engine.container import Container
from labkit.host.engine.forwarding import check_receiver, start_forwarding
from labkit.host.engine.health import start_health, stop_health
from labkit.host.engine.mounts import mounted, released
from labkit.host.engine.namespaces import joined_namespaces
from labkit.host.engine.ports import ExitLike, ShimPort
from labkit.host.engine.runtimes import runtime_of
from labkit.host.engine.subpaths import expected_subpaths, verify_subpaths
from labkit.host.isolation.spec import RootSpec, Step

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["exit_code_of_failure", "launch", "root_of", "shim_folder", "timeline_of", "watch"]


def shim_folder(context: Context, identifier: str) -> Path:
    """Where a container's shim keeps its socket and its records."""
    return context.folder(identifier) / "shim"


def exit_code_of_failure(message: str) -> int:
    """What Docker records for a process that could not be started."""
    lowered = message.lower()
    if "executable file not found" in lowered or "no such file or directory" in lowered:
        return 127
    if "permission denied" in lowered or "is a directory" in lowered:
        return 126
    return 128


async def root_of(context: Context, container: Container) -> RootSpec:
    """The container's root, as stacked when it was created."""
    if container.root is None:
        container.root = await asyncio.to_thread(context.ports.snapshots.root_spec, container.id)
    return container.root


async def launch(context: Context, container: Container, *, again: bool = False) -> None:
    """Start the process. The caller holds the lock; `again` is a restart by policy.

    On failure the container says why (State.Error, ExitCode) and the error goes on.
    """
    started_ns = time.monotonic_ns()
    try:
        shim = await _start_process(context, container)
    except LabkitError as error:
        await _failed(context, container, error)
        raise
    container.shim = shim
    container.exited.clear()
    state = container.state.changed(
        pid=shim.init_pid,
        exit_code=0,
        error="",
        oom_killed=False,
        started_at_ns=shim.started_at_ns or time.time_ns(),
        finished_at_ns=container.state.finished_at_ns,
        manually_stopped=False,
        restart_count=container.state.restart_count + 1 if again else 0,
        backoff_ms=container.state.backoff_ms if again else 0,
        health=None,
    )
    event = context.events.make("container", "start", container.id, container.attributes())
    events = (*mounted(context, container), event)
    recorded = asyncio.ensure_future(context.transit(container, "start", state, events=events))
    context.keep_timeline(container.id, timeline_of(container, shim, started_ns))
    try:
        await recorded
    except BaseException:
        # Not recorded is not started: the process must not outlive the answer that it failed.
        with contextlib.suppress(LabkitError, OSError):
            await shim.signal(9)
        container.watcher = context.spawn(_reap(context, container, shim), f"reap {container.name}")
        raise
    container.watcher = context.spawn(watch(context, container, shim), f"watch {container.name}")
    start_health(context, container)
    start_forwarding(context, container)


async def _start_process(context: Context, container: Container) -> ShimPort:
    definition = container.definition
    folder = shim_folder(context, container.id)
    await check_receiver(context, container)
    root = await root_of(context, container)
    networking.require_networks(context, container)
    joins = networking.needs_joining(context, container)
    with joined_namespaces(context, definition) as namespaces:
        waiting = [pending for pending in container.pending if not pending.is_closed]
        subpaths = await expected_subpaths(context, definition.mounts)
        try:
            spec = await specs.container_spec(context, definition, root, namespaces, folder)
            shim = await runtime_of(context, container.host.runtime).start(
                spec,
                specs.io_spec(context, definition),
                folder,
                hold=bool(waiting or subpaths) or joins,
            )
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
    if waiting or subpaths or joins:
        container.pending.clear()
        try:
            verify_subpaths(shim, subpaths)
            if joins:
                await networking.join(context, container, shim)
            await asyncio.gather(*(pending.go_live(shim) for pending in waiting))
            await shim.release()
        except BaseException:
            # No network, no such program, or the caller went away: nothing has run.
            await networking.leave(context, container)
            with contextlib.suppress(LabkitError, OSError):
                await shim.signal(9)
            await shim.cleanup()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
    return shim


async def _failed(context: Context, container: Container, error: LabkitError) -> None:
    """Record a start that did not happen."""
    code = exit_code_of_failure(error.message)
    state = container.state.changed(
        exit_code=code, error=error.message, pid=0, finished_at_ns=container.state.finished_at_ns
    )
    was_restarting = container.state.status == "restarting"
    await context.transit(container, "start-failed", state)
    if was_restarting:
        container.settle("not-running", "next-exit")
    for pending in container.pending:
        pending.abandon()
    container.pending.clear()
    steps = getattr(error, "steps", ())
    context.keep_timeline(container.id, _timeline(container, steps, 0))
    if container.host.auto_remove and not container.keep:
        from labkit.host.engine.removal import finish_removal

        await finish_removal(context, container)


async def _reap(context: Context, container: Container, shim: ShimPort) -> None:
    await shim.wait()
    await shim.cleanup()
    container.shim = None
    container.exited.set()
    await asyncio.to_thread(shutil.rmtree, shim_folder(context, container.id), ignore_errors=True)


async def watch(context: Context, container: Container, shim: ShimPort) -> None:
    """Wait for the end of a process and do what follows from it."""
    status = await shim.wait()
    async with container.lock:
        await ended(context, container, shim, status)


async def ended(
    context: Context, container: Container, shim: ShimPort | None, status: ExitLike
) -> None:
    """A container's first process has ended: record it, clean up, restart or remove."""
    await stop_health(container)
    before = container.state
    finished_ns = status.finished_at_ns or time.time_ns()
    ran_ns = max(finished_ns - before.started_at_ns, 0)
    decision = restarting.after_exit(
        container.host.restart_policy, before, code=status.code, ran_ns=ran_ns
    )
    restart = decision.restart and not container.removing
    state = before.changed(
        pid=0,
        exit_code=status.code,
        error=status.error,
        oom_killed=status.oom_killed,
        finished_at_ns=finished_ns,
        backoff_ms=decision.wait_ms,
    )
    events = []
    if status.oom_killed:
        events.append(context.events.make("container", "oom", container.id, container.attributes()))
    attributes = container.attributes(
        exitCode=str(status.code), execDuration=str(ran_ns // 1_000_000_000)
    )
    events.append(context.events.make("container", "die", container.id, attributes))
    action: Any = "die-restart" if restart else "die"
    # Both at once: should the engine die in between, exit.json still says how it ended.
    cleaned = asyncio.ensure_future(_clean(shim))
    is_recorded = await context.transit(
        container, action, state, events=tuple(events), is_fact=True
    )
    container.settle("not-running", "next-exit")
    await networking.leave(context, container)
    await cleaned
    container.shim = None
    await released(context, container)
    is_removed = (
        container.host.auto_remove and not container.keep and not container.removing and not restart
    )
    if not is_removed and is_recorded:  # otherwise its exit.json is the only record there is
        await asyncio.to_thread(
            shutil.rmtree, shim_folder(context, container.id), ignore_errors=True
        )
    container.exited.set()
    if restart:
        container.restart_timer = context.spawn(
            _start_again(context, container, decision.wait_ms), f"restart {container.name}"
        )
    elif is_removed:
        from labkit.host.engine.removal import finish_removal

        await finish_removal(context, container, volumes=True)


async def _clean(shim: ShimPort | None) -> None:
    if shim is not None:
        await shim.cleanup()


async def _start_again(context: Context, container: Container, wait_ms: int) -> None:
    await asyncio.sleep(wait_ms / 1000)
    async with container.lock:
        if container.state.status == "restarting":
            container.restart_timer = None
            # The failure is in the container's state; there is nobody to tell.
            with contextlib.suppress(LabkitError):
                await launch(context, container, again=True)


def timeline_of(container: Container, shim: ShimPort, started_ns: int) -> dict[str, Any]:
    """The steps of a start as the lab API shows them."""
    found = _timeline(container, shim.steps, started_ns)
    found["processes"] = [
        {"role": "shim", "pid": shim.pid},
        {"role": "container", "pid": shim.init_pid, "inside": 1},
    ]
    return found


def _timeline(container: Container, steps: tuple[Step, ...], started_ns: int) -> dict[str, Any]:
    shown = [
        {
            "name": step.name,
            "call": step.call,
            "detail": step.detail,
            "start_ns": step.start_ns,
            "end_ns": step.end_ns,
            "by": step.by,
            "error": step.error,
        }
        for step in steps
    ]
    if steps and started_ns:
        first = min(step.start_ns for step in steps)
        shown.insert(
            0,
            {
                "name": "prepare",
                "call": "",
                "detail": "the engine reads the image's users, builds the spec, starts the shim",
                "start_ns": started_ns,
                "end_ns": max(first, started_ns),
                "by": "daemon",
                "error": 0,
            },
        )
    definition = container.definition
    return {
        "container": {"id": container.id, "name": container.name},
        "image": definition.image,
        "argv": [definition.path, *definition.args],
        "clock": "monotonic",
        "processes": [],
        "steps": shown,
    }
