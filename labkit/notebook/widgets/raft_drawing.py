"""One moment of a Raft trace as an SVG: a ring of servers, their logs, a Lamport diagram."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.raft_trace import (
    Flight,
    RaftTrace,
    flying,
    message_name,
    quorum,
    role_of,
    title_of,
)
from labkit.notebook.widgets.svg import Drawing, fit, text_on

__all__ = ["TERM_COLOURS", "draw_moment", "term_colour"]

TERM_COLOURS = [
    OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "sky", "vermillion", "yellow")
]
"""Term 1 is the first; the number is always written beside the colour."""

ROLE_MARKS = {"leader": "★", "candidate": "?", "pre_candidate": "?", "follower": ""}

_WIDTH, _PAD = 920, 18
_RING = 400
_BEFORE_NS, _AFTER_NS = 900_000_000, 350_000_000
_CELLS = 14


def term_colour(term: int) -> str:
    """The fill of what belongs to a term; grey before the first."""
    return TERM_COLOURS[(term - 1) % len(TERM_COLOURS)] if term > 0 else "var(--soft)"


def _ink(term: int) -> str:
    return text_on(term_colour(term)) if term > 0 else "var(--back)"


def draw_moment(trace: RaftTrace, at: int, description: str) -> str:
    """The moment as an SVG document; `description` is its text twin."""
    drawing = Drawing(_WIDTH, title_of(trace), description)
    drawing.text(_PAD, 32, title_of(trace), size=17, classes="b")
    if not trace.events:
        drawing.text(_PAD, 60, "Nothing has happened yet.", classes="s")
        return drawing.document(80)
    place = f"step {at} of {len(trace.events) - 1}   ·   {trace.seconds(at):.3f} s"
    drawing.text(_WIDTH - _PAD, 32, place, classes="s", anchor="end")
    drawing.text(_PAD, 54, fit(trace.caption(at), _WIDTH - 2 * _PAD, 13), size=13)
    flights = trace.flights()
    _ring(drawing, trace, at, flights, 64)
    bottom = _logs(drawing, trace, at, _RING + 2 * _PAD + 8, 84)
    y = max(64 + _RING, bottom) + 10
    if trace.says[at] != trace.caption(at):
        drawing.text(_PAD, y, fit(trace.says[at], _WIDTH - 2 * _PAD, 12), size=12, classes="s")
    return drawing.document(_lamport(drawing, trace, at, flights, y + 26) + 12)


def _places(nodes: Sequence[int], top: float) -> dict[int, tuple[float, float]]:
    middle_x, middle_y, radius = _PAD + _RING / 2, top + _RING / 2, _RING / 2 - 62
    found = {}
    for number, node in enumerate(nodes):
        angle = 2 * math.pi * number / len(nodes) - math.pi / 2
        found[node] = (middle_x + radius * math.cos(angle), middle_y + radius * math.sin(angle))
    return found


def _ring(
    drawing: Drawing, trace: RaftTrace, at: int, flights: Sequence[Flight], top: float
) -> None:
    places = _places(trace.nodes, top)
    for one, other in sorted({(min(pair), max(pair)) for pair in trace.cuts(at)}):
        if one in places and other in places:
            (x1, y1), (x2, y2) = places[one], places[other]
            drawing.raw(
                f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{OKABE_ITO["vermillion"]}"'
                ' stroke-width="1.5" stroke-dasharray="2 6" opacity=".8"/>'
            )
    now_ns = trace.events[at]["t_ns"]
    for flight in flying(flights, at):
        if flight.sender in places and flight.receiver in places:
            _message(drawing, flight, places, now_ns)
    radius = 36 if len(places) <= 5 else 30
    for node, (x, y) in places.items():
        state = trace.state(node, at)
        if state is not None:
            _server(drawing, trace, node, state, (x, y), radius)


def _message(
    drawing: Drawing, flight: Flight, places: Mapping[int, tuple[float, float]], now_ns: int
) -> None:
    (x1, y1), (x2, y2) = places[flight.sender], places[flight.receiver]
    share = 0.5
    if flight.end_ns is not None and flight.end_ns > flight.sent_ns:
        share = (now_ns - flight.sent_ns) / (flight.end_ns - flight.sent_ns)
    room = (50 if len(places) <= 5 else 44) / math.hypot(x2 - x1, y2 - y1)
    share = room + (1 - 2 * room) * min(1.0, max(0.0, share))
    x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
    title = f"{message_name(flight.message)}, term {flight.message[1]}"
    drawing.raw(
        f'<path d="M{x1:.1f} {y1:.1f}L{x:.1f} {y:.1f}" stroke="var(--line)"/>'
        f"<g><title>{escape(title)}</title>{_mark(flight.message, x, y)}</g>"
    )


def _mark(message: list[Any], x: float, y: float) -> str:
    """A shape for each kind: a square asks, a tick or a cross answers, a disc brings entries, an
    empty disc is a heartbeat, a triangle acknowledges."""
    colour = term_colour(message[1])
    kind = message_name(message)
    style = f'fill="{colour}" stroke="var(--fg)" stroke-width="1"'
    if kind in ("vote request", "pre-vote", "stand now"):
        return f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" {style}/>'
    refused = (message[0] == "VoteReply" and not message[3]) or (
        message[0] == "AppendReply" and not message[3]
    )
    if refused:
        return (
            f'<path d="M{x - 6:.1f} {y - 6:.1f}l12 12m0 -12l-12 12" stroke="var(--fg)" '
            f'stroke-width="5.5"/><path d="M{x - 6:.1f} {y - 6:.1f}l12 12m0 -12l-12 12" '
            f'stroke="{colour}" stroke-width="3"/>'
        )
    if kind in ("vote reply", "pre-vote reply"):
        return f'<path d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z" {style}/>'
    if kind == "append":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" {style}/>'
    if kind == "heartbeat":
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="var(--back)" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
    return f'<path d="M{x:.1f} {y - 6:.1f}l6 10h-12z" {style}/>'


def _server(
    drawing: Drawing,
    trace: RaftTrace,
    node: int,
    state: Mapping[str, Any],
    place: tuple[float, float],
    radius: float,
) -> None:
    x, y = place
    up, term = state["up"], state["term"]
    leads = up and state["role"] == "leader"
    fill = term_colour(term) if leads else "var(--panel)"
    ink = _ink(term) if leads else ""
    dash = ' stroke-dasharray="4 4"' if not up else ""
    edge = term_colour(term) if up else "var(--soft)"
    drawing.raw(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{edge}" '
        f'stroke-width="{4 if up and state["role"] != "follower" else 2}"{dash}/>'
    )
    if up and not leads and state["timeout"]:
        drawing.raw(_arc(x, y, radius + 6, min(1.0, state["elapsed"] / state["timeout"])))
    mark = "✕" if not up else "❚❚" if state["paused"] else ROLE_MARKS.get(state["role"], "")
    short = trace.name(node) if len(trace.name(node)) < 4 else str(node)
    called = f"{mark} {short}".strip()
    drawing.text(x, y - 9, called, size=13, classes="b", anchor="middle", fill=ink)
    drawing.text(x, y + 7, f"term {term}", size=11, anchor="middle", fill=ink)
    drawing.text(
        x, y + 21, _below(trace, state), size=10, anchor="middle", fill=ink or "var(--soft)"
    )
    label = (
        role_of(state) if len(trace.name(node)) < 4 else f"{trace.name(node)} · {role_of(state)}"
    )
    drawing.text(
        x, y + radius + 20, label, size=11.5, classes="b" if leads else "", anchor="middle"
    )


def _below(trace: RaftTrace, state: Mapping[str, Any]) -> str:
    if state["up"] and state["role"] in ("candidate", "pre_candidate"):
        return f"{len(state['votes'])} of {quorum(state['config'])}"
    if state["vote"]:
        return f"→ {trace.name(state['vote']).replace('manager-', 'm')}"
    return "no vote"


def _arc(x: float, y: float, radius: float, share: float) -> str:
    """How much of its patience a server has used up."""
    whole = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="none" stroke="var(--line)" '
        'stroke-width="3"/>'
    )
    if share <= 0:
        return whole
    angle = 2 * math.pi * min(share, 0.9999) - math.pi / 2
    end_x, end_y = x + radius * math.cos(angle), y + radius * math.sin(angle)
    return whole + (
        f'<path d="M{x:.1f} {y - radius:.1f}A{radius} {radius} 0 {int(share > 0.5)} 1 {end_x:.1f} '
        f'{end_y:.1f}" fill="none" stroke="var(--fg)" stroke-width="3"/>'
    )


def _logs(drawing: Drawing, trace: RaftTrace, at: int, x: float, y: float) -> float:
    """Log bars: filled is committed, dashed is not; the number is the entry's term."""
    states = {node: state for node in trace.nodes if (state := trace.state(node, at)) is not None}
    leader = next(
        (s for s in states.values() if s["up"] and s["role"] == "leader" and not s["paused"]), None
    )
    last = max((s["first"] + len(s["log"]) - 1 for s in states.values()), default=0)
    start = max(1, last - _CELLS + 1)
    names = 92 if any(len(trace.name(node)) > 3 for node in states) else 34
    left, cell = x + names, 26.0
    drawing.text(x, y - 6, "log: the number in a cell is its term", size=11, classes="s")
    for index in range(start, max(last, start + 3) + 1):
        at_x = left + (index - start) * cell + cell / 2
        drawing.text(at_x, y + 12, str(index), size=10, classes="s", anchor="middle")
    row = 40
    for number, (node, state) in enumerate(states.items()):
        top = y + 20 + number * row
        drawing.text(x, top + 16, trace.name(node), size=12, classes="b")
        for offset, term in enumerate(state["log"]):
            index = state["first"] + offset
            if index >= start:
                _cell(drawing, left + (index - start) * cell, top, cell, term,
                      committed=index <= state["commit"])  # fmt: skip
        drawing.text(left, top + 33, _told(node, state, leader), size=10, classes="s")
    return y + 20 + len(states) * row


def _cell(
    drawing: Drawing, x: float, y: float, width: float, term: int, *, committed: bool
) -> None:
    colour = term_colour(term)
    if committed:
        drawing.rect(x + 1, y, width - 2, 22, fill=colour, stroke=colour, radius=4)
    else:
        drawing.rect(x + 1, y, width - 2, 22, stroke=colour, dash="3 2", radius=4, stroke_width=2)
    ink = _ink(term) if committed else ""
    drawing.text(x + width / 2, y + 15.5, str(term), size=11.5, anchor="middle", fill=ink)


def _told(node: int, state: Mapping[str, Any], leader: Mapping[str, Any] | None) -> str:
    said = f"committed {state['commit']}, applied {state['applied']}"
    if leader is not None and str(node) in leader["peers"]:
        following, match, _ = leader["peers"][str(node)]
        said += f" · the leader knows {match}, sends {following} next"
    return said


def _lamport(
    drawing: Drawing, trace: RaftTrace, at: int, flights: Sequence[Flight], y: float
) -> float:
    """Time runs to the right, a lane for each server, an arrow for each message."""
    now = int(trace.events[at]["t_ns"])
    begin = max(int(trace.events[0]["t_ns"]), now - _BEFORE_NS)
    end = begin + _BEFORE_NS + _AFTER_NS
    left, right = _PAD + 84, _WIDTH - _PAD
    nodes = trace.nodes
    lane = 30 if len(nodes) <= 5 else 22
    lanes = {node: y + 24 + number * lane for number, node in enumerate(nodes)}

    def at_x(t_ns: int) -> float:
        return left + (right - left) * ((t_ns - begin) / (end - begin))

    drawing.text(_PAD, y, "Who said what to whom (Lamport’s diagram)", size=12, classes="b")
    drawing.text(
        right, y, f"{begin / 1e9:.2f} s to {end / 1e9:.2f} s", classes="s", size=11, anchor="end"
    )
    for node, lane_y in lanes.items():
        drawing.text(_PAD, lane_y + 4, trace.name(node), size=11.5)
        _lane(drawing, trace, node, begin, end, at_x, lane_y)
    for flight in flights:
        ended = flight.end_ns if flight.end_ns is not None else now
        if ended < begin or flight.sent_ns > end:
            continue
        _arrow(drawing, flight, at_x, lanes, begin, end, now)
    drawing.raw(
        f'<path d="M{at_x(now):.1f} {y + 8:.1f}V{y + 24 + len(nodes) * lane - 10:.1f}" '
        'stroke="var(--fg)" stroke-width="1.5"/>'
    )
    return float(y + 24 + len(nodes) * lane)


def _lane(
    drawing: Drawing, trace: RaftTrace, node: int, begin: int, end: int, at_x: Any, y: float
) -> None:
    """A server's line: thick while it leads, double while it stands, gone while it is down."""
    changes = [begin]
    for event in trace.events:
        changed = {"role", "term", "up", "paused"} & event["state"].keys()
        if event["node"] == node and changed and begin < event["t_ns"] < end:
            changes.append(int(event["t_ns"]))
    times = [event["t_ns"] for event in trace.events]
    last = min(end, int(times[-1]))
    for t_ns, until in zip(changes, [*changes[1:], last], strict=True):
        state = trace.state(node, bisect_right(times, t_ns) - 1)
        if state is None or not state["up"] or until <= t_ns:
            continue
        width = {"leader": 7, "candidate": 4, "pre_candidate": 4}.get(state["role"], 1.5)
        dash = ' stroke-dasharray="3 4"' if state["paused"] else ""
        drawing.raw(
            f'<path d="M{at_x(t_ns):.1f} {y:.1f}H{at_x(until):.1f}" stroke-width="{width}" '
            f'stroke="{term_colour(state["term"])}"{dash}/>'
        )


def _arrow(
    drawing: Drawing,
    flight: Flight,
    at_x: Any,
    lanes: Mapping[int, float],
    begin: int,
    end: int,
    now: int,
) -> None:
    y1, y2 = lanes.get(flight.sender), lanes.get(flight.receiver)
    if y1 is None or y2 is None:
        return
    x1 = at_x(flight.sent_ns)
    later = flight.sent_ns > now
    ended = flight.end_ns if flight.end_ns is not None else flight.sent_ns + 40_000_000
    if flight.lost and ended == flight.sent_ns:
        ended += 25_000_000
    x2, stop = at_x(ended), 0.5 if flight.lost else 1.0
    x2, y2 = x1 + stop * (x2 - x1), y1 + stop * (y2 - y1)
    if max(x1, x2) < at_x(begin) or x1 > at_x(end):
        return
    left, right = at_x(begin), at_x(end)
    if x1 < left:
        x1, y1 = left, y1 + (y2 - y1) * (left - x1) / (x2 - x1)
    if x2 > right:
        x2, y2 = right, y1 + (y2 - y1) * (right - x1) / (x2 - x1)
    quiet = message_name(flight.message) == "heartbeat" or flight.message[0] == "AppendReply"
    faint = 0.25 if later else 0.5 if quiet else 1.0
    colour = term_colour(flight.message[1])
    dash = ' stroke-dasharray="4 3"' if flight.lost else ""
    end_mark = (
        f'<path d="M{x2 - 3.5:.1f} {y2 - 3.5:.1f}l7 7m0 -7l-7 7" stroke="var(--fg)"/>'
        if flight.lost
        else f'<circle cx="{x2:.1f}" cy="{y2:.1f}" r="2.5" fill="{colour}"/>'
    )
    drawing.raw(
        f'<g opacity="{faint}"><path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" '
        f'stroke-width="{1 if quiet else 1.8}"{dash}/>{end_mark}</g>'
    )
