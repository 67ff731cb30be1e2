"""Views: live pictures beside the code, each with a static drawing and a text that says the same.

Importing this package is cheap; anywidget is imported when the first picture is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.base.errors import NotFound

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["VIEWS", "make_view", "render_static", "show_widget"]

VIEWS: dict[str, str] = {
    "namespaces": "processes by the namespaces they share",
    "lifecycle": "the states of containers and how they got there",
}


def make_view(name: str, client: LabClient) -> Any:
    """The live widget of that name. Raises NotFound for a name that is none of VIEWS."""
    if name == "namespaces":
        from labkit.notebook.widgets.namespaces import NamespacesView

        return NamespacesView(client)
    if name == "lifecycle":
        from labkit.notebook.widgets.lifecycle import LifecycleView

        return LifecycleView(client)
    raise NotFound(f"no view named '{name}'", hint=f"one of: {', '.join(VIEWS)}")


def render_static(name: str, client: LabClient) -> tuple[str, str]:
    """The picture as it is now: an SVG document and its text twin."""
    if name not in VIEWS:
        raise NotFound(f"no view named '{name}'", hint=f"one of: {', '.join(VIEWS)}")
    data = client.json("GET", f"/v1/views/{name}")
    if name == "namespaces":
        from labkit.notebook.widgets import namespaces_picture as picture

        state = picture.namespaces_state(data)
        return picture.draw(state), picture.describe(state)
    from labkit.notebook.widgets import lifecycle_picture

    chart = lifecycle_picture.lifecycle_state(data)
    return lifecycle_picture.draw(chart), lifecycle_picture.describe(chart)


def show_widget(widget: Any) -> None:
    """Display a view: the widget where a browser listens, else its drawing, else its text."""
    from IPython.display import display

    display(widget)  # type: ignore[no-untyped-call]
