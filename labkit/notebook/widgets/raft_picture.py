"""The Raft view as a still picture and as text: one moment of a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter
from labkit.notebook.widgets.raft_drawing import draw_moment
from labkit.notebook.widgets.raft_trace import RaftTrace, flying, message_name, role_of, title_of

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["describe", "draw", "fetch_live", "fetch_piece", "load_piece", "picture", "read_words"]

_TERMS = 14

# -- what is asked for --------------------------------------------------------------------------


def read_words(words: Sequence[str]) -> tuple[str, dict[str, int]]:
    """A scenario's name, or "" for the swarm that runs, and the numbers servers, seed and at.

    Raises InvalidParameter for words that are neither a name nor NAME=NUMBER."""
    name, numbers = "", {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in ("servers", "seed", "at") and value.isdecimal():
            numbers[key] = int(value)
        elif not equals and word.isdecimal() and "servers" not in numbers:
            numbers["servers"] = int(word)
        elif not equals and not name:
            name = word
        else:
            raise InvalidParameter(
                f"view raft cannot read '{word}'", hint="%lab view raft split-vote servers=5 at=155"
            )
    return name, numbers


def fetch_piece(client: LabClient, name: str, numbers: Mapping[str, int]) -> dict[str, Any]:
    """A scenario's whole trace, a saved run's (`run.jsonl`), or without a name what the running
    swarm has done.

    Without a name and without a swarm it is the first scenario, `election`.
    """
    if not name:
        try:
            return _live(client)
        except Conflict:  # no swarm is up
            name = "election"
    if name.endswith(".jsonl"):
        return load_piece(Path(name))
    query = {key: str(value) for key, value in numbers.items() if key != "at"}
    answer: dict[str, Any] = client.json("GET", f"/v1/raft/scenarios/{name}", query=query)
    return answer


def load_piece(path: Path) -> dict[str, Any]:
    """A saved trace (labkit/world/sim/trace.py): a line of `meta`, then a line for each event.

    Raises InvalidParameter for a file that is not there or is no trace."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if lines[0].pop("trace", None) != 1:
            raise ValueError("its first line does not say that it is one")
        meta = {"title": path.stem, "scenario": path.stem, **lines[0]}
        events = [
            {"step": step, "t_ns": at, "kind": kind, "node": node, "detail": detail, "state": state}
            for step, (at, kind, node, detail, state) in enumerate(lines[1:])
        ]
    except (OSError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise InvalidParameter(
            f"view raft cannot read a trace from {path}: {error}",
            hint="%lab view raft shows the swarm, or a story without one",
        ) from error
    return {
        "live": False,
        "meta": meta,
        "base": {},
        "events": events,
        "next": len(events) - 1,
        "dropped": 0,
    }


def fetch_live(client: LabClient, after: int) -> dict[str, Any]:
    """What the swarm's managers did after that step. Raises Conflict when no swarm is up."""
    query = {"after": str(after), "limit": "2000"}
    answer: dict[str, Any] = client.json("GET", "/v1/raft/trace", query=query)
    return answer


def _live(client: LabClient) -> dict[str, Any]:
    """A live trace comes in portions; whoever starts to look wants all that is kept, up to now."""
    piece = fetch_live(client, -1)
    for _ in range(10):
        more = fetch_live(client, piece["next"])
        if not more["events"]:
            break
        piece["events"] += more["events"]
        piece["next"] = more["next"]
    return piece


def picture(client: LabClient, words: list[str]) -> tuple[str, str]:
    """SVG and text of a chosen moment (`at=STEP`), of a story's last turn, or of now."""
    name, numbers = read_words(words)
    trace = RaftTrace.of(fetch_piece(client, name, numbers))
    last = len(trace.events) - 1
    at = min(numbers.get("at", trace.telling_moment()), last)
    return draw(trace, at), describe(trace, at)


# -- text ---------------------------------------------------------------------------------------


def describe(trace: RaftTrace, at: int) -> str:
    """The moment as text: a table of the servers, what just happened, what is under way."""
    if not trace.events:
        return f"{title_of(trace)}. Nothing has happened yet."
    lines = [
        f"{title_of(trace)}. Step {at} of {len(trace.events) - 1}, {trace.seconds(at):.3f} s.",
    ]
    if caption := trace.caption(at):
        lines.append(caption)
    lines += ["", _row("SERVER", "ROLE", "TERM", "VOTE", "TIMER", "COMMIT", "LOG (terms)")]
    for node in trace.nodes:
        state = trace.state(node, at)
        if state is None:
            continue
        vote = trace.name(state["vote"]) if state["vote"] else "-"
        lines.append(
            _row(
                trace.name(node),
                role_of(state),
                state["term"],
                vote,
                f"{state['elapsed']}/{state['timeout']}",
                state["commit"],
                _log_text(state),
            )
        )
    lines.append("")
    if trace.says[at] != trace.caption(at):
        lines.append(trace.says[at])
    under_way = flying(trace.flights(), at)
    if under_way:
        kinds = [
            f"{message_name(f.message)} {trace.name(f.sender)}→{trace.name(f.receiver)}"
            for f in under_way
        ]
        lines.append("Under way: " + ", ".join(kinds) + ".")
    if cut := trace.cuts(at):
        pairs = sorted({(min(p), max(p)) for p in cut})
        lines.append("Cut: " + ", ".join(f"{trace.name(a)}|{trace.name(b)}" for a, b in pairs))
    return "\n".join(lines)


def _row(*cells: object) -> str:
    widths = (11, 13, 5, 11, 7, 7)
    return "  " + " ".join(
        [f"{cell!s:<{width}}" for cell, width in zip(cells, widths, strict=False)]
        + [str(cells[-1])]
    )


def _log_text(state: Mapping[str, Any]) -> str:
    log, first = state["log"], state["first"]
    shown = log[-_TERMS:]
    start = first + len(log) - len(shown)
    cells = []
    for offset, term in enumerate(shown):
        cells.append(f"{term}")
        if start + offset == state["commit"] and offset < len(shown) - 1:
            cells.append("|")
    return f"{start}: {' '.join(cells)}" if cells else "empty"


def draw(trace: RaftTrace, at: int) -> str:
    """The moment as an SVG document."""
    return draw_moment(trace, at, describe(trace, at))
