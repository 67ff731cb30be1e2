"""What happened on this host, as Docker's `events` tells it.

The last EVENTS_KEPT events are in memory and in the records, so history survives a restart of
the daemon. Live readers have a queue each; a reader too slow for RING events loses the oldest
and goes on, because one stuck client must not make the engine hold memory without end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

from labkit.host.engine.filters import Filters, matches_labels
from labkit.host.engine.records import EVENTS_KEPT, Write

__all__ = ["EventLog"]

Json = dict[str, Any]

RING = 4096
# Docker's daemon takes any other filter and heeds it not; so do we.
_OBJECTS = frozenset(
    {"config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"}
)


class EventLog:
    """Events of one host; `make` stamps one, `publish` shows it once its row is durable."""

    def __init__(self, history: list[Json]) -> None:
        self._history: deque[Json] = deque(history, maxlen=EVENTS_KEPT)
        self._listeners: dict[int, Callable[[Json], None]] = {}
        self._serial = 0
        self._last_ns = history[-1]["timeNano"] if history else 0

    @property
    def listeners(self) -> int:
        """How many readers follow live."""
        return len(self._listeners)

    def make(self, kind: str, action: str, identifier: str, attributes: Mapping[str, str]) -> Json:
        """An event of now. Times strictly grow, so `since` the last one seen misses nothing."""
        at_ns = max(time.time_ns(), self._last_ns + 1)
        self._last_ns = at_ns
        event: Json = {}
        if kind in ("container", "image"):
            event["status"] = action
            event["id"] = identifier
            if kind == "container" and attributes.get("image"):
                event["from"] = attributes["image"]
        event |= {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": identifier, "Attributes": dict(attributes)},
            "scope": "local",
            "time": at_ns // 1_000_000_000,
            "timeNano": at_ns,
        }
        return event

    @staticmethod
    def write_of(event: Json) -> Write:
        """The statement that records `event`."""
        return (
            "INSERT INTO events(at_ns, body) VALUES (?, ?)",
            (event["timeNano"], json.dumps(event)),
        )

    def publish(self, *events: Json) -> None:
        """Add to history and tell every listener."""
        for event in events:
            self._history.append(event)
            for listener in tuple(self._listeners.values()):
                listener(event)

    def subscribe(self, listener: Callable[[Json], None]) -> Callable[[], None]:
        """Call `listener` with each event from now on; the answer ends that."""
        self._serial += 1
        serial = self._serial
        self._listeners[serial] = listener
        return lambda: self._listeners.pop(serial, None) and None

    def stream(
        self, *, since_ns: int | None, until_ns: int | None, filters: Filters | None
    ) -> AsyncIterator[Json]:
        """History from `since_ns`, then live until `until_ns`; subscribed when this returns."""
        wanted = dict(filters or {})
        queue: asyncio.Queue[Json] = asyncio.Queue(maxsize=RING)

        def offer(event: Json) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

        past = [
            event
            for event in self._history
            if (since_ns is not None or (until_ns is not None and until_ns < time.time_ns()))
            and (since_ns is None or event["timeNano"] >= since_ns)
            and (until_ns is None or event["timeNano"] <= until_ns)
        ]
        return _Stream(past, queue, self.subscribe(offer), until_ns, wanted)


class _Stream(AsyncIterator[Json]):
    """One reader's view; `aclose` ends its subscription."""

    def __init__(
        self,
        past: list[Json],
        queue: asyncio.Queue[Json],
        unsubscribe: Callable[[], None],
        until_ns: int | None,
        filters: Filters,
    ) -> None:
        self._past = deque(past)
        self._queue = queue
        self._unsubscribe = unsubscribe
        self._until_ns = until_ns
        self._filters = filters

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Json:
        while True:
            event = await self._next()
            if event is None:
                self._unsubscribe()
                raise StopAsyncIteration
            if _matches(event, self._filters):
                return event

    async def _next(self) -> Json | None:
        if self._past:
            return self._past.popleft()
        if self._until_ns is None:
            return await self._queue.get()
        left_s = (self._until_ns - time.time_ns()) / 1e9
        try:
            async with asyncio.timeout(max(left_s, 0)):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def aclose(self) -> None:
        self._unsubscribe()


def _matches(event: Json, filters: Filters) -> bool:
    """Docker's rules: values of one filter are alternatives, filters must all hold."""
    kind, action = event["Type"], event["Action"]
    attributes: dict[str, str] = event["Actor"]["Attributes"]
    identifier: str = event["Actor"]["ID"]
    for name, values in filters.items():
        if not values:
            continue
        if name == "type":
            holds = kind in values
        elif name == "event":
            # `exec_start: sh` is found by its first word, as is `health_status: healthy`.
            holds = any(action == value or action.startswith(f"{value}:") for value in values)
        elif name == "label":
            holds = matches_labels(values, attributes)
        elif name == "scope":
            holds = event["scope"] in values
        elif name == "image":
            image = attributes.get("image", "") if kind == "container" else identifier
            own = attributes.get("name", "") if kind == "image" else ""
            holds = any(_same_image(value, image) or _same_image(value, own) for value in values)
        elif name not in _OBJECTS:
            continue
        else:
            holds = kind == name and any(
                identifier == value
                or (len(value) > 3 and identifier.startswith(value))
                or attributes.get("name", "") == value.removeprefix("/")
                for value in values
            )
        if not holds:
            return False
    return True


def _same_image(wanted: str, found: str) -> bool:
    """`alpine` names every tag of alpine; `alpine:3` only that one."""
    if wanted == found:
        return True
    repository = found.partition("@")[0]
    slash = repository.rfind("/")
    colon = repository.rfind(":")
    return wanted == (repository[:colon] if colon > slash else repository)
