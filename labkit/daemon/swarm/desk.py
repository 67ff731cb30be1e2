"""Who waits for an answer from one manager, and who watches keys through it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from labkit.base.errors import LabkitError
from labkit.cluster.store.errors import Indefinite
from labkit.cluster.store.replica import Replica, Reply
from labkit.cluster.store.results import Result
from labkit.cluster.store.watching import Notice

__all__ = ["Desk"]


class Desk:
    """Requests by number; numbers are used once."""

    def __init__(self) -> None:
        self._last = 0
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._watchers: dict[int, asyncio.Queue[Notice]] = {}

    def open(self) -> tuple[int, asyncio.Future[Result]]:
        """A new request, and what its answer will be in."""
        self._last += 1
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = future
        return self._last, future

    def close(self, number: int) -> bool:
        """Nobody waits any more. True if it had not been answered."""
        return self._waiting.pop(number, None) is not None

    def answer(self, replies: Iterable[Reply]) -> None:
        """Hand answers out."""
        for reply in replies:
            assert isinstance(reply.request, int)
            future = self._waiting.pop(reply.request, None)
            if future is None or future.done():
                continue
            if isinstance(reply.answer, LabkitError):
                future.set_exception(reply.answer)
            else:
                future.set_result(reply.answer)

    def fail(self, name: str) -> None:
        """The manager has stopped: what was asked may or may not happen."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Indefinite(f"{name} stopped before it could answer"))

    # -- watches -----------------------------------------------------------------------------------

    def watch(
        self, replica: Replica, key: str, end: str | None, after: int
    ) -> tuple[int, asyncio.Queue[Notice]]:
        """Follow some keys; the number ends it."""
        self._last += 1
        queue: asyncio.Queue[Notice] = asyncio.Queue()
        replica.watches.add(self._last, key, end, after)
        self._watchers[self._last] = queue
        self.notify(replica)
        return self._last, queue

    def unwatch(self, replica: Replica, number: int) -> None:
        """Nobody listens any more."""
        self._watchers.pop(number, None)
        replica.watches.drop(number)

    def notify(self, replica: Replica) -> None:
        """Tell the watchers what is new."""
        if self._watchers:
            for notice in replica.notices():
                assert isinstance(notice.watch, int)
                queue = self._watchers.get(notice.watch)
                if queue is not None:
                    queue.put_nowait(notice)
