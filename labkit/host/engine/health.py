"""HEALTHCHECK: probes on a schedule, and the verdict starting, healthy or unhealthy.

A probe is an exec. Exit 0 is a pass, 1 a failure, anything else an error that counts as failure.
`retries` failures in a row make unhealthy; failures within the start period do not count until
the first pass. The last five probes are kept, each with up to 4 KiB of its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.base.quantities import format_duration
from labkit.host.engine.config import Healthcheck
from labkit.host.engine.container import Container
from labkit.host.engine.times import format_time

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["HealthMonitor", "probe_command", "start_health", "stop_health"]

_INTERVAL_NS = 30_000_000_000
_TIMEOUT_NS = 30_000_000_000
_START_INTERVAL_NS = 5_000_000_000
_RETRIES = 3
_LOG_LENGTH = 5
_OUTPUT_BYTES = 4096


@dataclass(slots=True)
class HealthMonitor:
    """The task that probes one running container."""

    task: asyncio.Task[None]


def probe_command(health: Healthcheck | None, shell: tuple[str, ...] | None) -> tuple[str, ...]:
    """The argument vector of a probe; empty when there is nothing to probe."""
    if health is None or not health.test or health.test[0] == "NONE":
        return ()
    if health.test[0] == "CMD-SHELL":
        return (*(shell or ("/bin/sh", "-c")), *health.test[1:])
    return health.test[1:]


def start_health(context: Context, container: Container, *, resumed: bool = False) -> None:
    """Begin probing a container that has just started (or was found running: `resumed`)."""
    argv = probe_command(container.config.healthcheck, container.config.shell)
    if not argv:
        return
    if not (resumed and container.state.health):
        container.state = container.state.changed(
            health={"Status": "starting", "FailingStreak": 0, "Log": []}
        )
    task = context.spawn(_probe_loop(context, container, argv), f"health of {container.name}")
    container.health = HealthMonitor(task)


async def stop_health(container: Container) -> None:
    """End probing; the last verdict stays in the record."""
    monitor, container.health = container.health, None
    if monitor is not None:
        monitor.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await monitor.task


async def _probe_loop(context: Context, container: Container, argv: tuple[str, ...]) -> None:
    health = container.config.healthcheck or Healthcheck()
    began = time.monotonic_ns()
    start_period = health.start_period_ns
    while container.state.is_live:
        verdict = (container.state.health or {}).get("Status", "starting")
        in_start = verdict == "starting" and time.monotonic_ns() - began < start_period
        interval = (
            (health.start_interval_ns or _START_INTERVAL_NS)
            if in_start
            else (health.interval_ns or _INTERVAL_NS)
        )
        await asyncio.sleep(interval / 1e9)
        if container.state.status != "running":
            continue
        began_ns = time.time_ns()
        code, output = await _probe(context, container, argv, health.timeout_ns or _TIMEOUT_NS)
        counts = time.monotonic_ns() - began >= start_period
        await _note(
            context,
            container,
            {
                "Start": format_time(began_ns),
                "End": format_time(time.time_ns()),
                "ExitCode": code,
                "Output": output,
            },
            retries=health.retries or _RETRIES,
            counts=counts,
        )


async def _probe(
    context: Context, container: Container, argv: tuple[str, ...], timeout_ns: int
) -> tuple[int, str]:
    from labkit.host.engine.probes import run_probe

    try:
        async with asyncio.timeout(timeout_ns / 1e9):
            code, output = await run_probe(context, container, argv, limit_bytes=_OUTPUT_BYTES)
    except TimeoutError:
        return -1, f"Health check exceeded timeout ({format_duration(timeout_ns)})"
    except LabkitError as error:
        return -1, error.message
    return code, output.decode("utf-8", "replace")


async def _note(
    context: Context,
    container: Container,
    entry: dict[str, Any],
    *,
    retries: int,
    counts: bool,
) -> None:
    """Add a probe's result; say so when the verdict changes."""
    before = container.state.health or {"Status": "starting", "FailingStreak": 0, "Log": []}
    status, streak = before["Status"], before["FailingStreak"]
    if entry["ExitCode"] == 0:
        status, streak = "healthy", 0
    elif counts or status != "starting":
        streak += 1
        if streak >= retries:
            status = "unhealthy"
    health = {
        "Status": status,
        "FailingStreak": streak,
        "Log": [*before["Log"], entry][-_LOG_LENGTH:],
    }
    async with container.lock:
        if not container.state.is_live:
            return
        await context.save_state(container, container.state.changed(health=health))
    if status != before["Status"]:
        await context.container_event(container, f"health_status: {status}")
