"""Views: live pictures beside the code, each with a static drawing and a text that says the same.

Importing this package is cheap; anywidget is imported when the first picture is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.magics.jobs import Job

__all__ = [
    "VIEWS",
    "ViewEntry",
    "has_frontend",
    "make_view",
    "render_static",
    "show_panel",
    "show_static",
    "show_timeline",
    "show_view",
]


@dataclass(frozen=True, slots=True)
class ViewEntry:
    """One view by its name N: widgets/N.py has `make(client, words)`, the live widget, and
    widgets/N_picture.py has `picture(client, words)`, its SVG and text; `words` are the user's,
    `usage` says which."""

    summary: str
    usage: str = ""
    words_max: int = 0


VIEWS: dict[str, ViewEntry] = {
    "namespaces": ViewEntry("processes by the namespaces they share, and what holds them"),
    "lifecycle": ViewEntry("the states of containers and how they got there"),
    "layers": ViewEntry("an image or a container taken apart", "IMAGE|CONTAINER [IMAGE2]", 2),
    "mounts": ViewEntry("where the files of containers are kept", "[CONTAINER…]", 20),
    "events": ViewEntry("what happened to which object, and when"),
    "raft": ViewEntry(
        "consensus, forward and backward: the swarm's managers, or a recorded story",
        "[SCENARIO|FILE.jsonl] [servers=N] [seed=N] [at=STEP]",
        4,
    ),
}


def _entry(name: str, words: Sequence[str]) -> ViewEntry:
    if name not in VIEWS:
        raise NotFound(f"no view named '{name}'", hint=f"one of: {', '.join(VIEWS)}")
    entry = VIEWS[name]
    if len(words) > entry.words_max:
        said = f" {entry.usage}" if entry.usage else ""
        raise InvalidParameter(
            f"cannot read '{' '.join(words)}' after view {name}", hint=f"%lab view {name}{said}"
        )
    return entry


def make_view(name: str, client: LabClient, words: Sequence[str] = ()) -> Any:
    """The live widget of that name. Raises NotFound for a name that is none of VIEWS, and
    InvalidParameter for words that the view does not take."""
    _entry(name, words)
    return import_module(f"{__name__}.{name}").make(client, list(words))


def render_static(name: str, client: LabClient, words: Sequence[str] = ()) -> tuple[str, str]:
    """The picture as it is now: an SVG document and its text twin. Raises like `make_view`."""
    _entry(name, words)
    svg, text = import_module(f"{__name__}.{name}_picture").picture(client, list(words))
    return svg, text


def has_frontend() -> bool:
    """Whether a browser listens. papermill, nbconvert and nbclient say so by allowing no input."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def show_view(name: str, client: LabClient, words: Sequence[str] = ()) -> None:
    """Display a view: the widget where a browser listens, else its drawing with its text."""
    if has_frontend():
        _display(make_view(name, client, words))
    else:
        show_static(*render_static(name, client, words))


def show_timeline(state: dict[str, Any]) -> None:
    """Display what %explain has measured."""
    if has_frontend():
        from labkit.notebook.widgets.timeline import TimelineView

        _display(TimelineView(state))
    else:
        from labkit.notebook.widgets import timeline_picture as picture

        prepared = picture.prepare(state)
        show_static(picture.draw(prepared), picture.describe(prepared))


def show_panel(job: Job) -> None:
    """Display a background job. Its first lines are waited for, a moment at most.

    Without a browser the drawing is renewed after each cell for as long as there is news.
    """
    job.wait_for("\n", 0.6)
    if has_frontend():
        from labkit.notebook.widgets.livepanel import LivePanel

        _display(LivePanel(job))
        return
    from IPython import get_ipython

    from labkit.notebook.widgets import livepanel_picture as picture

    shell = get_ipython()
    name = f"labkit-job-{id(job):x}"
    shown: list[dict[str, Any]] = []

    def draw(*_: object) -> None:
        state = picture.panel_state(job)
        if shown and shown[-1] == state:
            return
        fresh = not shown
        shown[:] = [state]
        show_static(picture.draw(state), picture.describe(state), name=name, update=not fresh)
        if job.code is not None and not fresh and shell is not None:
            shell.events.unregister("post_run_cell", draw)

    draw()
    if shell is not None:
        shell.events.register("post_run_cell", draw)


def show_static(svg: str, text: str, *, name: str | None = None, update: bool = False) -> None:
    """Display a drawing and its text twin; with `name` it can be replaced later."""
    from IPython.display import display

    data = {"image/svg+xml": svg, "text/plain": text}
    if name is None:
        display(data, raw=True)  # type: ignore[no-untyped-call]
    else:
        display(data, raw=True, display_id=name, update=update)  # type: ignore[no-untyped-call]


def _display(widget: Any) -> None:
    from IPython.display import display

    display(widget)  # type: ignore[no-untyped-call]
