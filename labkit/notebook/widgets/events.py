"""The events view: what the engine says has happened, object by object."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.events_picture import describe, draw, event_row, events_state

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["Feed", "make"]

_BACK_S = 600
_ROWS_MAX = 200


class Feed:
    """The engine's events, asked for as they accumulate; the last two hundred are kept."""

    def __init__(self, client: LabClient) -> None:
        self._client = client
        self._rows: deque[dict[str, Any]] = deque(maxlen=_ROWS_MAX)
        self._since_ns = int((time.time() - _BACK_S) * 1e9)
        self._drawn_until = 0.0

    def fetch(self) -> dict[str, Any]:
        """The state of the view now. Unchanged while nothing happens."""
        from labkit.notebook.client import Client

        socket = self._client.json("GET", "/v1/status")["docker_socket"]
        until_ns = time.time_ns()
        query = {"since": _stamp(self._since_ns), "until": _stamp(until_ns)}
        client = Client(f"unix://{socket}")
        try:
            found = list(client.stream("GET", "/events", query=query))
        finally:
            client.close()
        for event in found:
            nanoseconds = int(event.get("timeNano") or 0)
            if nanoseconds > self._since_ns:
                self._rows.append(event_row(event))
                self._since_ns = nanoseconds
        if found or not self._drawn_until:
            self._drawn_until = until_ns / 1e9
        return events_state(self._rows, self._drawn_until)


def _stamp(nanoseconds: int) -> str:
    return f"{nanoseconds // 1_000_000_000}.{nanoseconds % 1_000_000_000:09d}"


def make(client: LabClient, _words: list[str]) -> Any:
    """The live widget. anywidget is imported here and not before."""
    from labkit.notebook.widgets.base import LiveView, module_file

    class EventsView(LiveView):
        """Lanes of events, as they happen."""

        _esm = module_file("events.js")

        def static(self) -> tuple[str, str]:
            """SVG and text of the present state."""
            return draw(self.state), describe(self.state)

    return EventsView(Feed(client).fetch)
