"""The layers view: an image or a container taken apart, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.base import LiveView, module_file
from labkit.notebook.widgets.layers_picture import describe, draw, query_of
from labkit.notebook.widgets.layers_state import folders_worth_opening, layers_state

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["LayersView", "make"]

_OPEN_MAX = 60


class LayersView(LiveView):
    """The stack of layers and the tree that it makes. Folders are fetched when they are opened;
    one in which the container writes opens by itself."""

    _esm = module_file("layers.js")

    def __init__(self, client: LabClient, words: list[str], **kwargs: Any) -> None:
        self._open: set[str] = {"/"}
        self._closed: set[str] = set()
        self._known: set[str] | None = None

        def ask() -> dict[str, Any]:
            query = query_of(words, sorted(self._open))
            return dict(client.json("GET", "/v1/views/layers", query=query))

        def fetch() -> dict[str, Any]:
            data = ask()
            own = {
                deed["path"]
                for layer in data["layers"]
                if layer["kind"] == "writable"
                for deed in layer["deeds"]
            }
            fresh = own if self._known is None else own - self._known
            if self._unfold(data, fresh):
                data = ask()
            state = layers_state(data, seen=self._known if self._known is not None else own)
            self._known = own
            return {**state, "text": describe(state)}

        super().__init__(fetch, **kwargs)
        self.on_msg(self._asked)

    def _unfold(self, data: dict[str, Any], fresh: set[str]) -> bool:
        """Open the folders in which something has just happened. Says whether any was opened."""
        if self._known is None:
            wanted = set(folders_worth_opening(data))
        else:
            wanted = set()
            for path in fresh:
                parts = path.strip("/").split("/")[:-1]
                wanted.update("/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        wanted -= self._open | self._closed
        if len(self._open) + len(wanted) > _OPEN_MAX:
            return False
        self._open |= wanted
        return bool(wanted)

    def _asked(self, _: object, content: object, __: object) -> None:
        """A drawing opens or closes a folder."""
        if not isinstance(content, dict) or content.get("type") != "toggle":
            return
        path = str(content.get("path", ""))
        if not path.startswith("/"):
            return
        if path in self._open:
            below = path.rstrip("/") + "/"
            self._open = {one for one in self._open if one != path and not one.startswith(below)}
            self._closed.add(path)
        elif len(self._open) < _OPEN_MAX:
            self._open.add(path)
            self._closed.discard(path)
        self.refresh()

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return draw(self.state), describe(self.state)


def make(client: LabClient, words: list[str]) -> LayersView:
    """The live widget of one image or container, compared with an image if two are named."""
    return LayersView(client, words)
