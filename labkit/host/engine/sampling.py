"""Samples of running containers, taken beside while somebody looks.

`docker stats` shows a rate, and a rate needs two samples. Docker's engine takes them a second apart
when asked; here whoever asks once starts a sampler that goes on for a while, so that the next
question finds its first sample waiting. The counters are the kernel's and never reset, so any
distance between two samples is as exact as any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.host.engine import processes

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["Sampler"]

Json = dict[str, Any]

_PERIOD_S = 1.0
_INTEREST_S = 20.0
_FIRST_GAP_S = 0.25
"""Between the two samples of somebody who finds none waiting."""
_LEAST_GAP_S = 0.2
_FRESH_S = 1.2
_STALE_S = 3.0
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest sample of one container, when it was taken, and the one before."""

    at_s: float
    newest: Json
    older: Json | None = None


class Sampler:
    """The samples of one host."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._latest: dict[str, _Known] = {}
        self._asked = 0.0
        self._task: asyncio.Task[None] | None = None

    async def pair(self, reference: str) -> tuple[Json, Json]:
        """Two samples, the older one first; equal ones for a container that does not run."""
        container = self._context.find(reference)
        self._asked = time.monotonic()
        if self._task is None or self._task.done():
            self._task = self._context.spawn(self._run(), "sample containers")
        known = self._latest.get(container.id)
        age = time.monotonic() - known.at_s if known else 0.0
        if known is not None and known.older is not None and age <= _FRESH_S:
            return known.older, known.newest
        if known is None or age > _STALE_S:
            known = await self._note(container.id)
            if container.state.is_live:
                await asyncio.sleep(_FIRST_GAP_S)
        elif age < _LEAST_GAP_S:
            await asyncio.sleep(_LEAST_GAP_S - age)
        # One that was removed meanwhile has no second sample: NotFound, as for any other call.
        return known.newest, await processes.stats(self._context, container.id)

    async def _note(self, identifier: str) -> _Known:
        sample = await processes.stats(self._context, identifier)
        before = self._latest.get(identifier)
        found = _Known(time.monotonic(), sample, before.newest if before else None)
        self._latest[identifier] = found
        return found

    async def _run(self) -> None:
        try:
            while time.monotonic() - self._asked < _INTEREST_S:
                await self._sample()
                await asyncio.sleep(_PERIOD_S)
        finally:
            self._latest.clear()

    async def _sample(self) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)
        live = [one.id for one in self._context.containers.values() if one.state.is_live]

        async def one(identifier: str) -> None:
            async with slots:
                with contextlib.suppress(LabkitError, OSError):
                    await self._note(identifier)

        await asyncio.gather(*(one(identifier) for identifier in live))
        for gone in self._latest.keys() - set(live):
            del self._latest[gone]
