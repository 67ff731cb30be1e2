"""The live panel of a command in the background: its output as it comes, and a stop button."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import traitlets

from labkit.notebook.widgets.base import View, module_file
from labkit.notebook.widgets.svg import Drawing, fit

if TYPE_CHECKING:
    from labkit.notebook.magics.jobs import Job

__all__ = ["LivePanel", "panel_state", "show_panel"]

_SHOWN_CHARACTERS = 24_000
_STATIC_LINES = 24


def panel_state(job: Job) -> dict[str, Any]:
    """What the panel shows of a job."""
    cut = job.characters > _SHOWN_CHARACTERS
    return {
        "number": job.number,
        "title": job.title,
        "state": job.state,
        "code": job.code,
        "text": job.text[-_SHOWN_CHARACTERS:],
        "cut": cut,
        "characters": job.characters,
    }


class LivePanel(View):
    """Follows one job. Pressing stop in the browser interrupts it."""

    _esm = module_file("livepanel.js")
    job_number = traitlets.Int().tag(sync=True)

    def __init__(self, job: Job, **kwargs: Any) -> None:
        self._job = job
        super().__init__(state=panel_state(job), job_number=job.number, **kwargs)
        job.on_change(self._follow)
        self.on_msg(self._heard)

    def _follow(self, job: Job) -> None:
        self.state = panel_state(job)

    def _heard(self, _: object, content: object, __: object) -> None:
        if isinstance(content, dict) and content.get("type") == "stop":
            # Stopping may take seconds; the kernel must stay free for the next message.
            threading.Thread(target=self._job.stop, daemon=True).start()

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return draw(self.state), describe(self.state)


def describe(state: dict[str, Any]) -> str:
    """The panel as text."""
    ending = "" if state["code"] is None else f", exit code {state['code']}"
    head = f"[{state['number']}] {state['state']}{ending}: {state['title']}"
    return f"{head}\n{state['text']}".rstrip("\n")


def draw(state: dict[str, Any]) -> str:
    """The panel as an SVG document: the last lines."""
    drawing = Drawing(900, f"Background job {state['number']}", describe(state))
    ending = "" if state["code"] is None else f", exit code {state['code']}"
    drawing.text(16, 28, fit(state["title"], 640, 13, mono=True), size=13, classes="m b")
    drawing.text(884, 28, f"{state['state']}{ending}", classes="s", anchor="end")
    lines = state["text"].splitlines()[-_STATIC_LINES:] or ["(no output yet)"]
    for number, line in enumerate(lines):
        drawing.text(
            16,
            54 + number * 17,
            fit(line.expandtabs(), 868, 11.5, mono=True),
            size=11.5,
            classes="m",
        )
    return drawing.document(54 + len(lines) * 17)


def show_panel(job: Job) -> None:
    """Display a job's panel, with what it has printed in its first moments."""
    from labkit.notebook.widgets import show_widget

    job.wait(0.3)
    show_widget(LivePanel(job))
