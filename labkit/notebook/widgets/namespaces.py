"""The namespaces view: who shares which namespace with whom, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.base import LiveView, module_file
from labkit.notebook.widgets.namespaces_picture import describe, draw, namespaces_state

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["NamespacesView"]


class NamespacesView(LiveView):
    """Processes of the host, of boxes and of containers by the namespaces they share."""

    _esm = module_file("namespaces.js")

    def __init__(self, client: LabClient, **kwargs: Any) -> None:
        colours: dict[str, str] = {}

        def fetch() -> dict[str, Any]:
            return namespaces_state(client.json("GET", "/v1/views/namespaces"), colours)

        super().__init__(fetch, **kwargs)

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return draw(self.state), describe(self.state)
