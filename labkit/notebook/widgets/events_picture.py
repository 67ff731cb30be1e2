"""The events view as data, text and static drawing: one lane per object, time to the right.

What the engine tells `docker events` is all there is to it: a student who has read the lane of a
container can read the same story in a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.ids import short_id
from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.svg import Drawing, fit, text_on

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["describe", "draw", "event_row", "events_state", "picture"]

_WIDTH, _LEFT, _RIGHT = 960, 190, 30
_LANE_PX, _TOP = 40, 64
LANES_MAX = 14
_GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "made": (OKABE_ITO["sky"], ("create", "build", "pull", "load", "import", "tag", "commit")),
    "begun": (OKABE_ITO["green"], ("start", "restart", "unpause", "connect", "mount", "attach")),
    "asked to end": (OKABE_ITO["orange"], ("stop", "pause", "kill", "disconnect", "unmount")),
    "ended": (OKABE_ITO["vermillion"], ("die", "oom")),
    "removed": (OKABE_ITO["purple"], ("destroy", "remove", "delete", "untag", "prune")),
}
_OTHER = ("other", OKABE_ITO["blue"])


def _group(action: str) -> tuple[str, str]:
    for name, (colour, actions) in _GROUPS.items():
        if action in actions:
            return name, colour
    return _OTHER


def event_row(event: Mapping[str, Any]) -> dict[str, Any]:
    """One event of the engine as the view shows it."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = int(event.get("timeNano") or int(event.get("time") or 0) * 1_000_000_000)
    action, _, command = str(event.get("Action", "")).partition(": ")
    group, colour = _group(action)
    details = [command] if command else []
    for key, words in (("exitCode", "exit code"), ("signal", "signal"), ("image", "")):
        if attributes.get(key) and not (key == "image" and event.get("Type") == "image"):
            details.append(f"{words} {attributes[key]}".strip())
    identifier = str(actor.get("ID", ""))
    return {
        "at": nanoseconds / 1e9,
        "time": time.strftime("%H:%M:%S", time.localtime(nanoseconds // 1_000_000_000))
        + f".{nanoseconds // 1_000_000 % 1000:03d}",
        "kind": str(event.get("Type", "")),
        "id": identifier,
        "name": str(attributes.get("name") or short_id(identifier)),
        "action": action,
        "details": ", ".join(details),
        "group": group,
        "colour": colour,
    }


def events_state(rows: Iterable[Mapping[str, Any]], until: float) -> dict[str, Any]:
    """Rows and the lanes they lie in: the objects that had something happen to them last."""
    shown = [dict(row) for row in rows]
    lanes: dict[str, dict[str, str]] = {}
    for row in reversed(shown):
        key = f"{row['kind']} {row['id']}"
        row["lane"] = key
        if key not in lanes and len(lanes) < LANES_MAX:
            lanes[key] = {"key": key, "kind": row["kind"], "name": row["name"]}
    ordered = sorted(
        lanes.values(), key=lambda lane: next(r["at"] for r in shown if r["lane"] == lane["key"])
    )
    since = shown[0]["at"] if shown else until - 60
    legend = [{"name": name, "colour": colour} for name, (colour, _) in _GROUPS.items()]
    legend.append({"name": _OTHER[0], "colour": _OTHER[1]})
    return {"rows": shown, "lanes": ordered, "since": since, "until": until, "legend": legend}


def describe(state: Mapping[str, Any]) -> str:
    """The events as text, oldest first."""
    if not state["rows"]:
        return "Events: nothing has happened yet"
    lines = [
        f"  {row['time']}  {row['kind']:<9} {row['name']:<20} {row['action']}"
        + (f" ({row['details']})" if row["details"] else "")
        for row in state["rows"]
    ]
    return "\n".join([f"Events: {len(lines)}", *lines])


def _spread(places: list[float], distance: float) -> list[float]:
    """The same places, moved right where they would lie on top of each other."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance) if moved else place)
    return moved


def draw(state: Mapping[str, Any]) -> str:
    """The events as an SVG document."""
    drawing = Drawing(_WIDTH, "Events of the engine", describe(state))
    drawing.text(16, 28, "Events", size=16, classes="b")
    x = 96.0
    for entry in state["legend"]:
        drawing.raw(f'<circle cx="{x:g}" cy="23" r="6" fill="{entry["colour"]}"/>')
        drawing.text(x + 11, 27, entry["name"], size=11.5, classes="s")
        x += 26 + 6.4 * len(entry["name"])
    if not state["rows"]:
        drawing.text(16, 62, "nothing has happened yet", classes="s")
        return drawing.document(84)
    width = _WIDTH - _LEFT - _RIGHT
    span = max(1.0, state["until"] - state["since"])
    for number, lane in enumerate(state["lanes"]):
        y = _TOP + number * _LANE_PX
        drawing.text(16, y + 3, fit(lane["name"], 160, 12.5), size=12.5, classes="b")
        drawing.text(16, y + 16, lane["kind"], size=10.5, classes="s")
        drawing.raw(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="var(--line)"/>'
        )
        rows = [row for row in state["rows"] if row["lane"] == lane["key"]]
        places = _spread([_LEFT + (r["at"] - state["since"]) / span * width for r in rows], 15)
        for row, place in zip(rows, places, strict=True):
            _mark(drawing, row, min(place, _WIDTH - 10), y)
    bottom = _TOP + len(state["lanes"]) * _LANE_PX
    for share in (0.0, 0.5, 1.0):
        moment = time.localtime(state["since"] + share * span)
        anchor = ("start", "middle", "end")[int(share * 2)]
        at = _LEFT + share * width
        drawing.text(at, bottom, time.strftime("%H:%M:%S", moment), size=11, classes="s",
                     anchor=anchor)  # fmt: skip
    return drawing.document(bottom + 16)


def _mark(drawing: Drawing, row: Mapping[str, Any], x: float, y: float) -> None:
    """A dot with the action's first letter: nothing is said by colour alone."""
    drawing.raw(f'<circle cx="{x:.1f}" cy="{y}" r="7" fill="{row["colour"]}"/>')
    letter = row["action"][:1]
    drawing.text(x, y + 3.5, letter, size=10, fill=text_on(row["colour"]), anchor="middle",
                 classes="b")  # fmt: skip


def picture(client: LabClient, _words: list[str]) -> tuple[str, str]:
    """SVG and text of what has happened lately."""
    from labkit.notebook.widgets.events import Feed

    state = Feed(client).fetch()
    return draw(state), describe(state)
