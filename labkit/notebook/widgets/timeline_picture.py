"""The timeline of a container's start: measured steps of client, daemon, shim and child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.base.quantities import format_duration
from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.svg import Drawing, fit

__all__ = ["COLOURS", "describe", "draw", "prepare", "took"]

COLOURS = {
    "client": OKABE_ITO["sky"],
    "daemon": OKABE_ITO["purple"],
    "shim": OKABE_ITO["orange"],
    "child": OKABE_ITO["green"],
}
_WHO = {
    "client": "client (this notebook)",
    "daemon": "daemon (labkitd)",
    "shim": "shim",
    "child": "child, which becomes the container",
}


def prepare(state: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement with the words and colours that are drawn."""
    first, last = state["focus_us"]
    return {
        **state,
        "steps": [{**step, "took": took(step["ns"])} for step in state["steps"]],
        "colours": COLOURS,
        "who": _WHO,
        "total_text": took(round(state["total_us"] * 1000)),
        "focus_text": took(round((last - first) * 1000)),
    }


def took(nanoseconds: int) -> str:
    """A length with three digits at most: 1.23ms, 45.6µs, 320ns."""
    if nanoseconds <= 0:
        return "0ns"
    digits = len(str(nanoseconds)) - 3
    return format_duration(round(nanoseconds, -max(0, digits)))


def describe(state: Mapping[str, Any]) -> str:
    """The measurement as text: one line per step, then why it exists."""
    lines = [
        f"{state['title']}: {took(int(state['total_us'] * 1000))} from the first step to the last."
    ]
    if state["processes"]:
        lines += ["", "Processes:"]
        for depth, one in enumerate(state["processes"]):
            inside = f", PID {one['inside']} inside" if one["inside"] is not None else ""
            pid = "has ended already" if one["pid"] is None else f"PID {one['pid']}{inside}"
            lines.append(f"  {'  ' * depth}{one['role']}: {one['text']} ({pid})")
    lines += ["", "  start        took       by      step"]
    for step in state["steps"]:
        start = took(int(step["start_us"] * 1000))
        what = f"{step['name']}: {step['call']}" if step["call"] else step["name"]
        detail = f" ({step['detail']})" if step["detail"] else ""
        error = f" FAILED: {step['error']}" if step["error"] else ""
        lines.append(f"  {start:>9}  {took(step['ns']):>9}   {step['by']:<7} {what}{detail}{error}")
        lines.append(f"  {'':>9}  {'':>9}           {step['why']}")
    if state.get("problem"):
        lines += ["", f"The kernel's steps are not known: {state['problem']}"]
    return "\n".join(lines)


_WIDTH, _LEFT, _RIGHT, _ROW = 940, 380, 90, 21


def draw(state: Mapping[str, Any]) -> str:
    """The measurement as an SVG document."""
    drawing = Drawing(_WIDTH, f"Timeline of {state['title']}", describe(state))
    drawing.text(18, 30, fit(state["title"], 620, 15, mono=True), size=15, classes="m b")
    drawing.text(
        _WIDTH - 18, 30, f"{took(int(state['total_us'] * 1000))} in all", classes="s", anchor="end"
    )
    y = _chain(drawing, state["processes"], 46)
    x = 18.0
    for by, colour in COLOURS.items():
        drawing.rect(x, y, 12, 12, fill=colour, radius=3)
        drawing.text(x + 18, y + 10.5, _WHO[by], size=11.5, classes="s")
        x += 36 + 6.4 * len(_WHO[by])
    y += 22
    first, last = state["focus_us"]
    scale = (_WIDTH - _LEFT - _RIGHT) / (last - first)
    for number, step in enumerate(state["steps"]):
        top = y + number * _ROW
        if number % 2 == 0:
            drawing.rect(12, top, _WIDTH - 24, _ROW, fill="var(--panel)", radius=3)
        drawing.text(18, top + 14.5, fit(step["name"], 160, 11.5), size=11.5)
        call = fit(step["call"] or step["detail"], _LEFT - 200, 10.5, mono=True)
        drawing.text(182, top + 14.5, call, size=10.5, classes="m s")
        begin = min(max(step["start_us"], first), last)
        end = min(max(step["start_us"] + step["length_us"], first), last)
        start = min(_LEFT + (begin - first) * scale, _WIDTH - _RIGHT - 2)
        length = max(2.0, (end - begin) * scale)
        drawing.rect(
            start, top + 4, length, _ROW - 8, fill=COLOURS.get(step["by"], "#888"), radius=2
        )
        drawing.text(
            _WIDTH - 18,
            top + 14.5,
            step.get("took") or took(step["ns"]),
            size=11,
            classes="m s",
            anchor="end",
        )
    return drawing.document(y + len(state["steps"]) * _ROW + 14)


def _chain(drawing: Drawing, processes: list[Mapping[str, Any]], y: float) -> float:
    """Boxes from client to container, left to right."""
    if not processes:
        return y
    width = (_WIDTH - 36 - 26 * (len(processes) - 1)) / max(4, len(processes))
    for number, one in enumerate(processes):
        x = 18 + number * (width + 26)
        colour = COLOURS.get({"container": "child"}.get(one["role"], one["role"]), "#888")
        drawing.rect(x, y, width, 42, stroke=colour, stroke_width=2, fill="var(--back)", radius=8)
        drawing.text(
            x + 10,
            y + 17,
            fit(f"{one['role']}: {one['text']}", width - 8, 11.5),
            size=11.5,
            classes="b",
        )
        inside = f"  =  PID {one['inside']} inside" if one["inside"] is not None else ""
        pid = "has ended already" if one["pid"] is None else f"PID {one['pid']}{inside}"
        drawing.text(x + 10, y + 33, pid, size=11, classes="m s")
        if number:
            drawing.text(x - 13, y + 26, "→", size=15, classes="s", anchor="middle")
    return y + 60
