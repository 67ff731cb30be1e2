"""The panel of a background job as data, as text, and as a static drawing of its last lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.svg import Drawing, fit

if TYPE_CHECKING:
    from labkit.notebook.magics.jobs import Job

__all__ = ["describe", "draw", "panel_state"]

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SHOWN_CHARACTERS = 24_000
_STATIC_LINES = 24


def _last_screen(text: str) -> str:
    """What a command that draws its screen again and again (`docker stats`) shows now."""
    before, home, screen = text.rpartition("\x1b[H")
    if not home:
        return text
    if "\x1b[J" not in screen:  # half drawn: the one before is whole
        screen = before.rpartition("\x1b[H")[2] or screen
    return _CONTROL.sub("", screen)


def panel_state(job: Job) -> dict[str, Any]:
    """What the panel shows of a job."""
    text = _last_screen(job.text)
    cut = job.characters > _SHOWN_CHARACTERS and text is job.text
    return {
        "number": job.number,
        "title": job.title,
        "state": job.state,
        "code": job.code,
        "text": text[-_SHOWN_CHARACTERS:],
        "cut": cut,
        "characters": job.characters,
    }


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
