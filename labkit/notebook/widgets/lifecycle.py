"""The lifecycle view: the engine's transition table, and where each container stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.base import LiveView, module_file
from labkit.notebook.widgets.lifecycle_picture import describe, draw, lifecycle_state

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["LifecycleView", "make"]


class LifecycleView(LiveView):
    """States, transitions, and the way each container has gone."""

    _esm = module_file("lifecycle.js")

    def __init__(self, client: LabClient, **kwargs: Any) -> None:
        def fetch() -> dict[str, Any]:
            return lifecycle_state(client.json("GET", "/v1/views/lifecycle"))

        super().__init__(fetch, **kwargs)

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return draw(self.state), describe(self.state)


def make(client: LabClient, _words: list[str]) -> LifecycleView:
    """The live widget."""
    return LifecycleView(client)
