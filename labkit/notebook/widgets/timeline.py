"""The timeline of a container's start: measured steps of client, daemon, shim and child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.notebook.widgets.base import View, module_file
from labkit.notebook.widgets.timeline_picture import describe, draw, prepare

__all__ = ["TimelineView"]


class TimelineView(View):
    """A finished measurement; nothing in it moves."""

    _esm = module_file("timeline.js")

    def __init__(self, state: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(state=prepare(state), **kwargs)

    def static(self) -> tuple[str, str]:
        """SVG and text of the measurement."""
        return draw(self.state), describe(self.state)
