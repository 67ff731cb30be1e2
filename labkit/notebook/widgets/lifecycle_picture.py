"""The lifecycle view as data, as text, and as a static drawing.

States and arrows come from the engine's own transition table; only their places on the paper are
decided here. A state the table may gain later is put into a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labkit.base.quantities import format_duration
from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.svg import Drawing, fit, text_on

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["describe", "draw", "lifecycle_state", "picture"]

WIDTH, HEIGHT = 960, 348
_NODE_W, _NODE_H = 132, 56
# Centres of the states; None is "no such container yet".
_PLACES: dict[str | None, tuple[float, float]] = {
    None: (16, 166),
    "created": (136, 166),
    "running": (376, 166),
    "exited": (640, 166),
    "removing": (842, 166),
    "paused": (376, 44),
    "restarting": (508, 276),
    "dead": (842, 276),
}
_COLOURS = {
    "created": OKABE_ITO["sky"],
    "running": OKABE_ITO["green"],
    "paused": OKABE_ITO["orange"],
    "restarting": OKABE_ITO["yellow"],
    "exited": OKABE_ITO["vermillion"],
    "removing": OKABE_ITO["purple"],
    "dead": "#8a8a8a",
}
_MEANINGS = {
    "created": "made, never started",
    "running": "its first process lives",
    "paused": "frozen: alive, but not scheduled",
    "restarting": "ended, waits to be started again",
    "exited": "its first process has ended",
    "removing": "being taken away",
    "dead": "could not be taken away",
}
# Path, place of the label, and its anchor, for every arrow of the table.
_ARROWS: dict[tuple[str | None, str], tuple[str, float, float, str]] = {
    (None, "created"): ("M24,166 H68", 44, 156, "middle"),
    ("created", "running"): ("M202,166 H308", 255, 158, "middle"),
    ("running", "exited"): ("M442,156 H572", 474, 149, "middle"),
    ("exited", "running"): ("M574,178 H444", 540, 194, "middle"),
    ("running", "paused"): ("M362,138 V74", 352, 110, "end"),
    ("paused", "running"): ("M390,72 V136", 400, 110, "start"),
    ("paused", "exited"): ("M442,36 H600 Q640,36 640,76 V136", 560, 28, "middle"),
    ("paused", "restarting"): ("M442,56 H486 Q506,56 506,76 V246", 514, 100, "start"),
    ("running", "restarting"): ("M352,194 V264 Q352,284 372,284 H440", 344, 246, "end"),
    ("restarting", "running"): ("M442,266 H412 Q392,266 392,246 V196", 402, 240, "start"),
    ("restarting", "exited"): ("M574,276 H620 Q640,276 640,256 V196", 596, 293, "start"),
    ("exited", "removing"): ("M706,160 H774", 740, 152, "middle"),
    ("created", "removing"): (
        "M136,194 V312 Q136,328 152,328 H738 Q754,328 754,312 V196 Q754,180 774,180",
        300, 320, "middle",
    ),
    ("dead", "removing"): ("M828,248 V196", 820, 226, "end"),
    ("removing", "dead"): ("M856,194 V246", 864, 226, "start"),
    ("created", "created"): ("M114,138 C102,96 170,96 158,136", 136, 98, "middle"),
    ("exited", "exited"): ("M664,138 C652,96 716,96 704,136", 714, 112, "start"),
}  # fmt: skip


def lifecycle_state(data: Mapping[str, Any]) -> dict[str, Any]:
    """From GET /v1/views/lifecycle to what is drawn: nodes, arrows, containers with histories."""
    containers = [_container(one) for one in data["containers"]]
    places = dict(_PLACES)
    unknown = [state for state in data["states"] if state not in places]
    for number, state in enumerate(unknown):
        places[state] = (100 + 150 * number, HEIGHT + 34)
    nodes = [
        {
            "id": state,
            "x": places[state][0] - _NODE_W / 2,
            "y": places[state][1] - _NODE_H / 2,
            "w": _NODE_W,
            "h": _NODE_H,
            "colour": _COLOURS.get(state, "#8a8a8a"),
            "ink": text_on(_COLOURS.get(state, "#8a8a8a")),
            "meaning": _MEANINGS.get(state, ""),
            "containers": [one["name"] for one in containers if one["state"] == state],
        }
        for state in data["states"]
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT + (70 if unknown else 0),
        "start": {"x": places[None][0], "y": places[None][1]},
        "nodes": nodes,
        "arrows": _arrows(data["transitions"], places),
        "containers": containers,
        "error": "",
    }


def _arrows(
    transitions: list[Mapping[str, Any]], places: Mapping[str | None, tuple[float, float]]
) -> list[dict[str, Any]]:
    """One arrow per pair of states, labelled with every action that takes it."""
    actions: dict[tuple[str | None, str], list[str]] = {}
    for row in transitions:
        actions.setdefault((row["from"], row["to"]), []).append(row["action"])
    arrows = []
    for (source, target), names in actions.items():
        path, x, y, anchor = _ARROWS.get((source, target)) or _straight(places, source, target)
        arrows.append(
            {
                "from": source or "",
                "to": target,
                "actions": names,
                "label": " / ".join(names),
                "path": path,
                "x": x,
                "y": y,
                "anchor": anchor,
            }
        )
    return arrows


def _straight(
    places: Mapping[str | None, tuple[float, float]], source: str | None, target: str
) -> tuple[str, float, float, str]:
    (x1, y1), (x2, y2) = places[source], places[target]
    return f"M{x1:g},{y1:g} L{x2:g},{y2:g}", (x1 + x2) / 2, (y1 + y2) / 2, "middle"


def _container(data: Mapping[str, Any]) -> dict[str, Any]:
    history = list(data.get("history") or [])
    steps = []
    for number, change in enumerate(history):
        following = history[number + 1]["at_ns"] if number + 1 < len(history) else None
        steps.append(
            {
                "state": change["state"],
                "action": change["action"],
                "time": _clock(change["at_ns"]),
                "stayed": "" if following is None else _length(following - change["at_ns"]),
            }
        )
    return {
        "id": data["id"],
        "name": data["name"].lstrip("/"),
        "state": data["state"],
        "status": data.get("status", ""),
        "steps": steps,
    }


def _clock(at_ns: int) -> str:
    # Local time: this is compared with the clock on the wall.
    return datetime.fromtimestamp(at_ns / 1e9).astimezone().strftime("%H:%M:%S")


def _length(nanoseconds: int) -> str:
    """Rounded to what a reader wants: 350ms, 12s, 3m5s."""
    if nanoseconds < 1_000_000_000:
        return format_duration(round(nanoseconds, -6))
    digits = -8 if nanoseconds < 60_000_000_000 else -9
    return format_duration(round(nanoseconds, digits))


def describe(state: Mapping[str, Any]) -> str:
    """The view as text."""
    lines = ["The life of a container, as the engine's table allows it:"]
    for arrow in state["arrows"]:
        source = arrow["from"] or "(none)"
        lines.append(f"  {source:<11} --{arrow['label']}--> {arrow['to']}")
    lines += [
        "",
        f"{len(state['containers'])} containers:" if state["containers"] else "No container.",
    ]
    for one in state["containers"]:
        lines.append(f"  {one['name']}: {one['state']} ({one['status']})")
        lines += [f"    {step['time']}  {_step_text(step)}" for step in one["steps"]]
    if state.get("error"):
        lines += ["", f"Not up to date: {state['error']}"]
    return "\n".join(lines)


def _step_text(step: Mapping[str, Any]) -> str:
    stayed = f", stayed {step['stayed']}" if step["stayed"] else ""
    return f"{step['action']} → {step['state']}{stayed}"


_MARKER = (
    '<defs><marker id="lka" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0,0.6 L7.4,4 L0,7.4 z" fill="var(--soft)"/>'
    "</marker></defs>"
)
_ROW = 22


def draw(state: Mapping[str, Any]) -> str:
    """The view as an SVG document."""
    drawing = Drawing(WIDTH, "Lifecycle view", describe(state))
    drawing.raw(_MARKER + '<g transform="translate(0,20)">')
    for arrow in state["arrows"]:
        drawing.raw(
            f'<path d="{arrow["path"]}" fill="none" stroke="var(--soft)" stroke-width="1.4" '
            'marker-end="url(#lka)"/>'
        )
        drawing.text(
            arrow["x"], arrow["y"], arrow["label"], size=11, classes="s", anchor=arrow["anchor"]
        )
    start = state["start"]
    drawing.raw(f'<circle cx="{start["x"]:g}" cy="{start["y"]:g}" r="6" fill="var(--fg)"/>')
    for node in state["nodes"]:
        _node(drawing, node)
    drawing.raw("</g>")
    y = state["height"] + 44.0
    for one in state["containers"][:40]:
        drawing.text(18, y, fit(one["name"], 170), classes="b")
        drawing.text(200, y, fit(one["status"] or one["state"], 210), classes="s")
        path = " · ".join(_step_text(step) for step in one["steps"][-4:])
        drawing.text(420, y, fit(path, 520, 11.5), size=11.5)
        y += _ROW
    return drawing.document(y + 4)


def _node(drawing: Drawing, node: Mapping[str, Any]) -> None:
    names = node["containers"]
    middle = node["x"] + node["w"] / 2
    if names:
        drawing.rect(node["x"], node["y"], node["w"], node["h"], fill=node["colour"], radius=10)
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        drawing.text(
            middle,
            node["y"] + 23,
            node["id"],
            size=14,
            classes="b",
            anchor="middle",
            fill=node["ink"],
        )
        drawing.text(
            middle,
            node["y"] + 42,
            fit(names[0], 104 - 8 * len(more), 11.5) + more,
            size=11.5,
            anchor="middle",
            fill=node["ink"],
        )
    else:
        drawing.rect(
            node["x"],
            node["y"],
            node["w"],
            node["h"],
            fill="var(--back)",
            stroke="var(--line)",
            radius=10,
            stroke_width=1.5,
        )
        drawing.text(middle, node["y"] + 33, node["id"], size=14, classes="s", anchor="middle")


def picture(client: LabClient, _words: list[str]) -> tuple[str, str]:
    """SVG and text of what is there now."""
    state = lifecycle_state(client.json("GET", "/v1/views/lifecycle"))
    return draw(state), describe(state)
