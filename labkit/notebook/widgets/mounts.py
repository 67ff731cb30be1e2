"""The mounts view: where the files of containers are kept, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.base import LiveView, module_file
from labkit.notebook.widgets.mounts_picture import describe, draw, mounts_state

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["MountsView", "make"]


class MountsView(LiveView):
    """Volumes, folders of the host and memory on one side, containers on the other."""

    _esm = module_file("drawing.js")

    def __init__(self, client: LabClient, words: list[str], **kwargs: Any) -> None:
        def fetch() -> dict[str, Any]:
            state = mounts_state(client.json("GET", "/v1/views/mounts", query={"container": words}))
            return {"svg": draw(state), "text": describe(state), "name": "Mounts", "error": ""}

        super().__init__(fetch, **kwargs)

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return str(self.state["svg"]), str(self.state["text"])


def make(client: LabClient, words: list[str]) -> MountsView:
    """The live widget of the named containers, or of all."""
    return MountsView(client, words)
