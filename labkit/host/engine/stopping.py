"""Signals to a container: stop with a grace, kill, restart, and the engine's own `end_now`."""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict, LabkitError, NotModified, SystemFailure
from labkit.host.engine.container import Container
from labkit.host.engine.signals import parse_signal
from labkit.host.engine.starting import launch

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["end_now", "kill", "restart", "stop", "stop_all"]

DEFAULT_GRACE_S = 10
_KILL_PATIENCE_S = 10


async def stop(
    context: Context, reference: str, *, timeout_s: int | None, signal: str | None
) -> None:
    """POST /containers/X/stop."""
    container = context.find(reference)
    number = _stop_signal(container, signal)
    if not await _stop(context, container, timeout_s, number):
        raise NotModified(f"container {container.id} is already stopped")


def _stop_signal(container: Container, signal: str | None) -> int:
    return parse_signal(signal or container.config.stop_signal or "SIGTERM")


def _grace_s(container: Container, timeout_s: int | None) -> float | None:
    """Seconds to wait for a polite end; None is for ever."""
    chosen = timeout_s if timeout_s is not None else container.config.stop_timeout
    if chosen is None:
        return DEFAULT_GRACE_S
    return None if chosen < 0 else chosen


async def _stop(context: Context, container: Container, timeout_s: int | None, number: int) -> bool:
    """Stop what runs; False when nothing did."""
    async with container.lock:
        if container.state.status == "restarting":
            await _give_up(context, container)
            return True
        if not container.state.is_live:
            return False
        container.state = container.state.changed(manually_stopped=True)
        await _send(context, container, number)
    grace = _grace_s(container, timeout_s)
    if grace is None or grace > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await container.exited.wait()
    if not container.exited.is_set():
        async with container.lock:
            if container.state.is_live:
                await _send(context, container, signals.SIGKILL)
        await _wait_for_end(container)
    # An AutoRemove container is gone by now; its last event is `destroy`, as in Docker.
    if container.id in context.containers:
        await context.container_event(container, "stop")
    return True


async def _give_up(context: Context, container: Container) -> None:
    """A container between two runs is stopped by not starting it again."""
    timer, container.restart_timer = container.restart_timer, None
    if timer is not None:
        timer.cancel()
    state = container.state.changed(manually_stopped=True, backoff_ms=0)
    await context.transit(container, "give-up", state)
    container.settle("not-running", "next-exit")


async def _send(context: Context, container: Container, number: int) -> None:
    """Signal the first process; a paused container is thawed so that it can act on it."""
    assert container.shim is not None
    try:
        await container.shim.signal(number)
    except (ProcessLookupError, Conflict):
        return  # it has just ended; the watcher is about to say so
    if container.state.status == "paused":
        await container.shim.resume()
        event = context.events.make("container", "unpause", container.id, container.attributes())
        await context.transit(container, "unpause", container.state, events=(event,))
    await context.container_event(container, "kill", signal=str(int(number)))


async def _wait_for_end(container: Container) -> None:
    try:
        async with asyncio.timeout(_KILL_PATIENCE_S):
            await container.exited.wait()
    except TimeoutError:
        raise SystemFailure(
            f"cannot kill container {container.id}: its process has not ended",
            hint="a process in uninterruptible sleep ends only when the kernel lets it go",
        ) from None


async def kill(context: Context, reference: str, *, signal: str | None) -> None:
    """POST /containers/X/kill. Returns after the end when the signal is KILL."""
    number = parse_signal(signal or "SIGKILL")
    container = context.find(reference)
    async with container.lock:
        if not container.state.is_live:
            raise Conflict(
                f"cannot kill container: {reference}: container {container.id} is not running",
                hint=f"`docker ps -a` shows it; `docker start {container.name}` starts it again",
            )
        own = container.config.stop_signal
        if number == signals.SIGKILL or not own or parse_signal(own) == number:
            container.state = container.state.changed(manually_stopped=True)
        if number != signals.SIGKILL and container.state.status == "paused":
            assert container.shim is not None
            await container.shim.signal(number)
            await context.container_event(container, "kill", signal=str(number))
            return
        await _send(context, container, number)
    if number == signals.SIGKILL:
        await _wait_for_end(container)


async def end_now(context: Context, container: Container) -> None:
    """Kill without politeness, for a forced removal."""
    async with container.lock:
        if container.state.status == "restarting":
            await _give_up(context, container)
            return
        if not container.state.is_live:
            return
        container.state = container.state.changed(manually_stopped=True)
        await _send(context, container, signals.SIGKILL)
    await _wait_for_end(container)


async def restart(
    context: Context, reference: str, *, timeout_s: int | None, signal: str | None
) -> None:
    """POST /containers/X/restart."""
    container = context.find(reference)
    number = _stop_signal(container, signal)
    if container.removing:
        raise Conflict("container is marked for removal and cannot be started")
    container.keep = True
    try:
        await _stop(context, container, timeout_s, number)
        async with container.lock:
            if not container.state.is_running:
                await launch(context, container)
    finally:
        container.keep = False
    await context.container_event(container, "restart")


async def stop_all(context: Context) -> None:
    """Stop every container at once, each with its own grace.

    Restart policies are kept: what runs now is started again with the engine, so the stop is not
    recorded as one made by hand.
    """

    async def one(container: Container) -> None:
        with contextlib.suppress(LabkitError):
            await _stop(context, container, None, _stop_signal(container, None))
            if container.id in context.containers:
                await context.save_state(container, container.state.changed(manually_stopped=False))

    await asyncio.gather(
        *(one(container) for container in tuple(context.containers.values())
          if container.state.is_running)
    )  # fmt: skip
