"""The namespaces view: who shares which namespace with whom, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from labkit.base.errors import LabkitError
from labkit.notebook.verdicts import ask_verdict
from labkit.notebook.widgets.base import LiveView, module_file
from labkit.notebook.widgets.namespaces_picture import describe, draw, namespaces_state

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["NamespacesView", "make"]


class NamespacesView(LiveView):
    """Processes of the host, of boxes and of containers by the namespaces they share, and what
    holds each of them: limits, capabilities, and its filter's verdict on a system call."""

    _esm = module_file("namespaces.js")

    verdict = traitlets.Dict().tag(sync=True)
    """The last answer: group, call, allowed, text."""

    def __init__(self, client: LabClient, **kwargs: Any) -> None:
        self._client = client
        colours: dict[str, str] = {}

        def fetch() -> dict[str, Any]:
            return namespaces_state(client.json("GET", "/v1/views/namespaces"), colours)

        super().__init__(fetch, **kwargs)
        self.on_msg(self._asked)

    def _asked(self, _: object, content: object, __: object) -> None:
        """A drawing asks what the filter of a container does with a call."""
        if not isinstance(content, dict) or content.get("type") != "verdict":
            return
        group, call = str(content.get("group", "")), str(content.get("call", "")).strip()
        kind, _, identifier = group.partition(":")
        if kind != "container" or not call:
            return
        try:
            found = ask_verdict(self._client, identifier, call)
            self.verdict = {"group": group, "call": call, **found}
        except (LabkitError, OSError) as error:
            self.verdict = {"group": group, "call": call, "allowed": None, "text": str(error)}

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return draw(self.state), describe(self.state)


def make(client: LabClient, _words: list[str]) -> NamespacesView:
    """The live widget."""
    return NamespacesView(client)
