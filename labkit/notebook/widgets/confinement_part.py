"""What holds a box or container, as a part of the namespaces view: gauges, capabilities, filter.

A gauge has a length and a number; a capability is a square that is filled (held), crossed out
(Docker leaves it to root by default, this container gave it up) or empty (never had).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.notebook.widgets.svg import Drawing

__all__ = ["HEIGHT", "confinement_lines", "confinement_state", "draw_confinement"]

HEIGHT = 134.0
"""Pixels that `draw_confinement` takes."""

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def confinement_state(
    data: Mapping[str, Any] | None, catalogue: Mapping[str, Any]
) -> dict[str, Any] | None:
    """From one entry of `confinement` in GET /v1/views/namespaces to what is drawn.

    `catalogue` is its `capabilities`: all there are, and Docker's default set.
    """
    if not data:
        return None
    held, default = set(data["capabilities"]["effective"]), set(catalogue["default"])
    return {
        "gauges": _gauges(data.get("cgroup") or {}),
        "capabilities": [
            {
                "name": name.removeprefix("CAP_"),
                "state": "held" if name in held else "given up" if name in default else "never",
            }
            for name in catalogue["all"]
        ],
        "held": len(held),
        "seccomp": _seccomp(data["seccomp"]),
        "filtered": data["seccomp"]["mode"] == "filter",
        "privileges": "no new privileges: set-user-id programs stay powerless"
        if data["no_new_privs"]
        else "set-user-id programs may raise rights within the bounding set",
        "identity": _identity(data),
        "closed": _closed(data),
    }


def _gauges(cgroup: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    if memory := cgroup.get("memory"):
        kills = int(memory["oom_kills"])
        found.append(
            _gauge(
                "memory",
                int(memory["used_bytes"]),
                int(memory["limit_bytes"]),
                _bytes,
                f"killed {kills} time{'' if kills == 1 else 's'} at the limit" if kills else "",
            )
        )
    if pids := cgroup.get("pids"):
        found.append(_gauge("processes", int(pids["used"]), int(pids["limit"]), str, ""))
    if cpu := cgroup.get("cpu"):
        limit, throttled = float(cpu["limit_cpus"]), int(cpu["throttled_periods"])
        found.append(
            {
                "name": "processors",
                "text": f"at most {limit:g}" if limit else "no limit",
                "share": None,
                "note": f"held back in {throttled} of {cpu['periods']} periods"
                if throttled
                else "",
            }
        )
    return found


def _gauge(name: str, used: int, limit: int, shown: Any, note: str) -> dict[str, Any]:
    return {
        "name": name,
        "text": f"{shown(used)} of {shown(limit)}" if limit else f"{shown(used)}, no limit",
        "share": min(1.0, used / limit) if limit else None,
        "note": note,
    }


def _bytes(count: int) -> str:
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def _seccomp(seccomp: Mapping[str, Any]) -> str:
    if seccomp["mode"] != "filter":
        return "no filter: every system call reaches the kernel"
    count = int(seccomp["filters"])
    return f"{count} filter{'' if count == 1 else 's'} before every system call"


def _identity(data: Mapping[str, Any]) -> str:
    rows = data.get("uid_map") or []
    uid = int(data["uid"])
    whole = len(rows) == 1 and rows[0]["inside"] == rows[0]["outside"] == 0
    if whole and uid == 0:
        return "user 0 inside is user 0 outside: root"
    if whole:
        return f"user {uid}, the same inside and outside"
    for row in rows:
        if row["outside"] <= uid < row["outside"] + row["count"]:
            inside = uid - row["outside"] + row["inside"]
            return f"user {inside} inside is user {uid} outside"
    return f"user {uid} outside, nobody inside"


def _closed(data: Mapping[str, Any]) -> str:
    masked, readonly = len(data["masked"]), len(data["readonly"])
    if not masked and not readonly:
        return "nothing of /proc and /sys is closed"
    return f"{masked} paths of /proc and /sys hidden, {readonly} read-only"


def confinement_lines(state: Mapping[str, Any] | None) -> list[str]:
    """As text, for the twin of the view."""
    if state is None:
        return []
    lines = [
        f"  {gauge['name']}: {gauge['text']}" + (f" ({gauge['note']})" if gauge["note"] else "")
        for gauge in state["gauges"]
    ]
    held = [one["name"] for one in state["capabilities"] if one["state"] == "held"]
    gone = [one["name"] for one in state["capabilities"] if one["state"] == "given up"]
    total = len(state["capabilities"])
    said = "all" if len(held) == total else ", ".join(held) or "none"
    lines.append(f"  capabilities, {len(held)} of {total}: {said}")
    if gone and held:
        lines.append(f"  given up: {', '.join(gone)}")
    lines.append(f"  seccomp: {state['seccomp']}; {state['privileges']}")
    lines.append(f"  {state['identity']}; {state['closed']}")
    return lines


def draw_confinement(
    drawing: Drawing, state: Mapping[str, Any], x: float, y: float, width: float, colour: str
) -> None:
    """Gauges in a row, one square per capability, one line on the filter."""
    drawing.rect(x, y, width, 1, fill="var(--line)", radius=0)
    step = width / 3
    for number, gauge in enumerate(state["gauges"]):
        left, room = x + number * step, step - 12
        drawing.text(left, y + 17, gauge["name"], size=10.5, classes="s")
        drawing.text(left, y + 32, gauge["text"], size=11.5)
        drawing.rect(left, y + 37, room, 6, stroke="var(--soft)", radius=3)
        if gauge["share"] is not None:
            drawing.rect(left, y + 37, max(2.0, room * gauge["share"]), 6, fill=colour, radius=3)
        if gauge["note"]:
            drawing.text(left, y + 54, gauge["note"], size=10, classes="s")
    if not state["gauges"]:
        drawing.text(x, y + 24, "no control group: nothing is counted or limited", classes="s")
    top = y + 66
    total = len(state["capabilities"])
    size = width / total - 1.6
    for number, one in enumerate(state["capabilities"]):
        left = x + number * (size + 1.6)
        if one["state"] == "held":
            drawing.rect(left, top, size, 13, fill=colour, radius=1.5)
            continue
        drawing.rect(left, top, size, 13, stroke="var(--line)", radius=1.5)
        if one["state"] == "given up":
            drawing.rect(left + 1, top + 5.5, size - 2, 2, fill="var(--soft)", radius=0)
    drawing.text(
        x, top + 28, f"{state['held']} of {total} capabilities · {state['seccomp']}", size=10.5
    )
    drawing.text(x, top + 43, state["identity"], size=10.5, classes="s")
    drawing.text(x, top + 58, state["closed"], size=10.5, classes="s")
