"""The namespaces view as data, as text, and as a static drawing.

Colour says whose a namespace is: each container or box has one, and a tile takes the colour of the
one that the namespace belongs to; the host's are left open with a dashed frame. Every tile says
the same in a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.confinement_part import (
    HEIGHT,
    confinement_lines,
    confinement_state,
    draw_confinement,
)
from labkit.notebook.widgets.svg import Drawing, fit, text_on

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["KINDS", "describe", "draw", "namespaces_state", "picture"]

KINDS: dict[str, str] = {
    "mnt": "mounts: which files are where",
    "pid": "process numbers",
    "ipc": "shared memory and queues",
    "uts": "host name",
    "net": "interfaces, addresses, routes",
    "cgroup": "root of the cgroup tree",
    "user": "user and group ids",
}
_HOST_OWNERS = ("host", "anchor", "labkit", "shim")
_COLOURS = [
    OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "sky", "vermillion", "yellow")
]


def namespaces_state(
    data: Mapping[str, Any], colours: dict[str, str] | None = None
) -> dict[str, Any]:
    """From GET /v1/views/namespaces to what is drawn: one group per owner, tiles, processes.

    `colours` remembers, from one picture to the next, which colour a group has had.
    """
    memory = {} if colours is None else colours
    host = dict(data["host"]["namespaces"])
    by_owner: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for process in data["processes"]:
        by_owner.setdefault(_owner_key(process["owner"]), []).append(process)
    groups = [
        _group(key, found, host)
        for key, found in sorted(by_owner.items(), key=lambda item: _order(item[0], item[1]))
        if key[0] != "host"
    ]
    present = {group["id"] for group in groups}
    for gone in set(memory) - present:
        del memory[gone]
    for group in groups:
        group["colour"] = memory.setdefault(group["id"], _free_colour(memory))
        group["ink"] = text_on(group["colour"])
    _mark_sharing(groups, host)
    for group in groups:
        held = data.get("confinement", {}).get(group["id"])
        group["confinement"] = confinement_state(held, data.get("capabilities", {}))
    processes = [_process(one, host) for one in by_owner.get(("host", ""), [])]
    return {
        "host": {
            "name": data["host"].get("name", "host"),
            "namespaces": host,
            "processes": _as_tree(processes),
        },
        "groups": groups,
        "kinds": KINDS,
        "others": int(data.get("others", 0)),
        "error": "",
    }


def _free_colour(memory: Mapping[str, str]) -> str:
    """The colour that the fewest groups have."""
    used = list(memory.values())
    return min(_COLOURS, key=lambda colour: (used.count(colour), _COLOURS.index(colour)))


def _owner_key(owner: Mapping[str, Any]) -> tuple[str, str]:
    kind = owner["kind"]
    if kind in _HOST_OWNERS:
        return ("host", "")
    return ("box" if kind == "box" else "container", str(owner.get("container") or owner["id"]))


def _order(key: tuple[str, str], processes: list[Mapping[str, Any]]) -> tuple[int, str, str]:
    return (0 if key[0] == "box" else 1, str(processes[0]["owner"].get("name", "")), key[1])


def _group(
    key: tuple[str, str], processes: list[Mapping[str, Any]], host: Mapping[str, int]
) -> dict[str, Any]:
    main = _main(processes, host)
    owner = next((p["owner"] for p in processes if p["owner"]["kind"] != "exec"), main["owner"])
    return {
        "id": f"{key[0]}:{key[1]}",
        "kind": key[0],
        "name": str(owner.get("name") or key[1][:12]),
        "image": str(owner.get("image") or ""),
        "namespaces": dict(main["namespaces"]),
        "processes": _as_tree([_process(p, main["namespaces"]) for p in processes]),
    }


def _main(processes: list[Mapping[str, Any]], host: Mapping[str, int]) -> Mapping[str, Any]:
    """The process whose namespaces stand for the group: the most isolated, then the oldest."""

    def distance(process: Mapping[str, Any]) -> tuple[int, int, int]:
        own = sum(1 for kind, inode in process["namespaces"].items() if inode != host.get(kind))
        return (-own, process["pids"][-1], process["pid"])

    return min(processes, key=distance)


def _process(process: Mapping[str, Any], reference: Mapping[str, int]) -> dict[str, Any]:
    pids = [int(pid) for pid in process.get("pids") or [process["pid"]]]
    arguments = [str(part) for part in process.get("args") or []]
    kind = process["owner"]["kind"]
    return {
        "pid": int(process["pid"]),
        "ppid": int(process.get("ppid", 0)),
        "inside": pids[-1] if len(pids) > 1 else None,
        "chain": pids,
        "user": str(process.get("user", "")),
        "command": _command(process, arguments),
        "name": str(process["command"]),
        "role": "" if kind in ("container", "box", "host") else kind,
        "namespaces": dict(process["namespaces"]),
        "differs": [k for k, i in process["namespaces"].items() if i != reference.get(k, i)],
    }


def _command(process: Mapping[str, Any], arguments: list[str]) -> str:
    owner = process["owner"]
    if owner["kind"] == "labkit":  # an interpreter, a path and a module would say less
        return str(owner.get("name") or "labkitd")
    return " ".join(arguments) or str(process["command"])


def _as_tree(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Children behind their parents, `depth` saying how far down."""
    by_parent: dict[int, list[dict[str, Any]]] = {}
    known = {process["pid"] for process in processes}
    for process in sorted(processes, key=lambda one: one["pid"]):
        parent = process["ppid"] if process["ppid"] in known else -1
        by_parent.setdefault(parent, []).append(process)
    ordered: list[dict[str, Any]] = []

    def walk(parent: int, depth: int) -> None:
        for process in by_parent.get(parent, ()):
            ordered.append({**process, "depth": depth})
            walk(process["pid"], depth + 1)

    walk(-1, 0)
    return ordered


def _mark_sharing(groups: list[dict[str, Any]], host: Mapping[str, int]) -> None:
    """Give each group its tiles: the host's, its own, or shared with others."""
    for group in groups:
        tiles = []
        for kind in KINDS:
            inode = group["namespaces"].get(kind)
            if inode is None:
                continue
            members = [one for one in groups if one["namespaces"].get(kind) == inode]
            state = "host" if inode == host.get(kind) else "own" if len(members) == 1 else "shared"
            first = members[0]
            tiles.append(
                {
                    "kind": kind,
                    "inode": inode,
                    "state": state,
                    "with": [one["name"] for one in members if one is not group],
                    "colour": "" if state == "host" else first["colour"],
                    "ink": "" if state == "host" else first["ink"],
                    "word": _word(state, first, group),
                }
            )
        group["tiles"] = tiles
        group["own"] = sum(1 for tile in tiles if tile["state"] != "host")


def _word(state: str, first: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    if state == "host":
        return "the host’s"
    if state == "own":
        return "its own"
    return "shared" if first is group else f"{first['name']}’s"


# -- text ---------------------------------------------------------------------------------------


def describe(state: Mapping[str, Any]) -> str:
    """The view as text, for screen readers and for places that show no picture."""
    groups = state["groups"]
    lines = [f"Namespaces on host {state['host']['name']}: {_counts(groups)}."]
    inodes = ", ".join(f"{kind} {inode}" for kind, inode in state["host"]["namespaces"].items())
    lines += ["", f"host {state['host']['name']}: {inodes}"]
    lines += _text_table(state["host"]["processes"], inside=False)
    for group in groups:
        image = f" ({group['image']})" if group["image"] else ""
        lines += ["", f"{group['kind']} {group['name']}{image}: {_sharing_sentence(group)}"]
        lines += _text_table(group["processes"], inside=True)
        lines += confinement_lines(group["confinement"])
    if state["others"]:
        lines += ["", f"{state['others']} other processes of this machine are not listed."]
    if state.get("error"):
        lines += ["", f"Not up to date: {state['error']}"]
    return "\n".join(lines)


def _counts(groups: Iterable[Mapping[str, Any]]) -> str:
    kinds = [group["kind"] for group in groups]
    parts = []
    for kind, plural in (("box", "boxes"), ("container", "containers")):
        if count := kinds.count(kind):
            parts.append(f"{count} {kind if count == 1 else plural}")
    return " and ".join(parts) or "no container and no box"


def _sharing_sentence(group: Mapping[str, Any]) -> str:
    own = [f"{t['kind']} {t['inode']}" for t in group["tiles"] if t["state"] == "own"]
    host = [t["kind"] for t in group["tiles"] if t["state"] == "host"]
    parts = [f"its own {', '.join(own)}"] if own else []
    parts += [
        f"{t['kind']} {t['inode']} shared with {', '.join(t['with'])}"
        for t in group["tiles"]
        if t["state"] == "shared"
    ]
    if host:
        parts.append(f"shared with the host: {', '.join(host)}")
    return "; ".join(parts)


def _text_table(processes: list[dict[str, Any]], *, inside: bool) -> list[str]:
    if not processes:
        return ["  no process"]
    lines = [
        "  PID outside  PID inside  USER        COMMAND"
        if inside
        else "  PID      USER        COMMAND"
    ]
    for process in processes:
        command = "  " * process["depth"] + process["command"]
        if process["differs"]:
            command += f"  [differs: {', '.join(process['differs'])}]"
        if inside:
            shown = "-" if process["inside"] is None else str(process["inside"])
            lines.append(f"  {process['pid']:<11}  {shown:<10}  {process['user']:<10}  {command}")
        else:
            lines.append(f"  {process['pid']:<7}  {process['user']:<10}  {command}")
    return lines


# -- the drawing --------------------------------------------------------------------------------

_WIDTH, _PAD, _GAP = 920, 18, 14
_CARD = (_WIDTH - 2 * _PAD - _GAP) / 2
_ROW, _TILE_H = 19, 50
_MAX_ROWS = 14


def draw(state: Mapping[str, Any]) -> str:
    """The view as an SVG document."""
    drawing = Drawing(_WIDTH, "Namespaces view", describe(state))
    drawing.text(_PAD, 32, "Namespaces", size=17, classes="b")
    drawing.text(
        _WIDTH - _PAD, 32, "filled: its own   ·   dashed: the host’s", classes="s", anchor="end"
    )
    y = 48.0
    y += _host_card(drawing, state["host"], y) + _GAP
    heights = [0.0, 0.0]
    for number, group in enumerate(state["groups"]):
        side = number % 2
        x = _PAD + side * (_CARD + _GAP)
        heights[side] += _group_card(drawing, group, x, y + heights[side]) + _GAP
    y += max(heights)
    if not state["groups"]:
        drawing.text(
            _PAD,
            y + 12,
            "No container and no box: everything is in the host’s namespaces.",
            classes="s",
        )
        y += 26
    if state["others"]:
        drawing.text(
            _PAD, y + 8, f"and {state['others']} other processes of this machine", classes="s"
        )
        y += 20
    return drawing.document(y + 8)


def _host_card(drawing: Drawing, host: Mapping[str, Any], y: float) -> float:
    width = _WIDTH - 2 * _PAD
    processes = host["processes"][:_MAX_ROWS]
    height = 92 + _ROW * (len(processes) + 1)
    drawing.rect(_PAD, y, width, height, fill="var(--panel)", stroke="var(--line)", radius=10)
    drawing.text(_PAD + 14, y + 24, f"host {host['name']}", size=14, classes="b")
    step = (width - 28 + 8) / len(KINDS)
    for number, (kind, inode) in enumerate(host["namespaces"].items()):
        x = _PAD + 14 + number * step
        _tile(
            drawing,
            x,
            y + 36,
            step - 8,
            {"kind": kind, "inode": inode, "state": "host", "word": ""},
        )
    _rows(drawing, processes, _PAD + 14, y + 36 + 42 + 18, width - 28, inside=False)
    return height


def _group_card(drawing: Drawing, group: Mapping[str, Any], x: float, y: float) -> float:
    processes = group["processes"][:_MAX_ROWS]
    hidden = len(group["processes"]) - len(processes)
    rows = _ROW * (len(processes) + 1 + (hidden > 0))
    held = group["confinement"]
    height = 40 + 2 * (_TILE_H + 8) + 14 + rows + (HEIGHT if held else 0)
    drawing.rect(x, y, _CARD, height, fill="var(--back)", stroke="var(--line)", radius=10)
    drawing.rect(x, y + 10, 4, height - 20, fill=group["colour"], radius=2)
    drawing.text(
        x + 16, y + 25, fit(f"{group['kind']} {group['name']}", 220, 14), size=14, classes="b"
    )
    drawing.text(x + _CARD - 14, y + 25, fit(group["image"], 170), classes="s", anchor="end")
    step = (_CARD - 30 + 8) / 4
    for number, tile in enumerate(group["tiles"]):
        _tile(
            drawing,
            x + 16 + (number % 4) * step,
            y + 38 + (number // 4) * (_TILE_H + 8),
            step - 8,
            tile,
        )
    last_x, last_y = x + 16 + 3 * step, y + 38 + _TILE_H + 8
    drawing.text(
        last_x + 4, last_y + 24, f"{group['own']} of {len(group['tiles'])}", size=17, classes="b"
    )
    drawing.text(last_x + 4, last_y + 41, "its own", size=11, classes="s")
    top = y + 38 + 2 * (_TILE_H + 8) + 12
    _rows(drawing, processes, x + 16, top, _CARD - 30, inside=True)
    if hidden:
        drawing.text(x + 16, top + _ROW * (len(processes) + 1), f"… {hidden} more", classes="s")
    if held:
        draw_confinement(drawing, held, x + 16, top + rows, _CARD - 30, group["colour"])
    return height


def _tile(drawing: Drawing, x: float, y: float, width: float, tile: Mapping[str, Any]) -> None:
    height = _TILE_H if tile["word"] else 40
    if tile["state"] == "host":
        drawing.rect(x, y, width, height, stroke="var(--soft)", dash="4 3")
        ink, soft = "", "var(--soft)"
    else:
        drawing.rect(x, y, width, height, fill=tile["colour"])
        ink = soft = tile["ink"]
    drawing.text(x + 8, y + 17, tile["kind"], size=13, classes="b", fill=ink)
    if tile["word"]:
        drawing.text(x + 8, y + 31, fit(tile["word"], width - 12, 11), size=11, fill=ink)
    drawing.text(x + 8, y + height - 7, str(tile["inode"]), size=10, classes="m", fill=soft)


def _rows(
    drawing: Drawing,
    processes: list[dict[str, Any]],
    x: float,
    y: float,
    width: float,
    *,
    inside: bool,
) -> None:
    columns = [0, 80, 150, 218] if inside else [0, 80, 150]
    titles = ["PID outside", "inside", "user", "command"] if inside else ["PID", "user", "command"]
    for offset, title in zip(columns, titles, strict=True):
        drawing.text(x + offset, y, title, size=10.5, classes="s")
    for number, process in enumerate(processes, start=1):
        at = y + number * _ROW
        cells = [str(process["pid"]), fit(process["user"], 62, 11.5)]
        if inside:
            cells.insert(1, "–" if process["inside"] is None else str(process["inside"]))
        indent = 12 * process["depth"]
        room = width - columns[-1] - indent
        note = f"  ≠ {', '.join(process['differs'])}" if process["differs"] and inside else ""
        command = fit(process["command"], room - 6.6 * len(note), 11.5, mono=True) + note
        for offset, cell in zip(columns, cells, strict=False):
            drawing.text(x + offset, at, cell, size=11.5, classes="m")
        drawing.text(x + columns[-1] + indent, at, command, size=11.5, classes="m")


def picture(client: LabClient, _words: list[str]) -> tuple[str, str]:
    """SVG and text of what is there now."""
    state = namespaces_state(client.json("GET", "/v1/views/namespaces"))
    return draw(state), describe(state)
