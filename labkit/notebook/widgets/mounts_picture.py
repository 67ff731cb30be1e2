"""The mounts view as data, as text, and as a drawing.

On the left the places where files are kept, on the right the containers with the folders they see
there. A line joins a place to a folder; a dashed one may only be read. Below each container stands
its own writable layer, which goes away with it: what is on the left stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.svg import Drawing, fit

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["describe", "draw", "mounts_state", "picture"]

_COLOURS = {
    "volume": OKABE_ITO["blue"],
    "bind": OKABE_ITO["orange"],
    "tmpfs": OKABE_ITO["purple"],
}
_WORDS = {"volume": "volume", "bind": "folder of the host", "tmpfs": "memory"}
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_WIDTH, _PAD, _LEFT, _RIGHT, _PLACE_H, _ROW = 920, 18, 330, 400, 46, 22


def mounts_state(data: Mapping[str, Any]) -> dict[str, Any]:
    """From GET /v1/views/mounts to places, containers and the lines between them."""
    places: dict[str, dict[str, Any]] = {}
    for volume in data["volumes"]:
        places[f"volume:{volume['name']}"] = {
            "kind": "volume",
            "name": volume["name"][:12] if volume["anonymous"] else volume["name"],
            "detail": _volume_detail(volume),
        }
    containers = []
    for one in data["containers"]:
        folders = []
        for mount in one["mounts"]:
            key = _place_key(one, mount)
            if key not in places:
                places[key] = {
                    "kind": mount["kind"],
                    "name": mount["source"] or f"tmpfs of {one['name']}",
                    "detail": _WORDS[mount["kind"]],
                }
            folders.append({"target": mount["target"], "place": key, "writable": mount["writable"]})
        containers.append(
            {
                "name": one["name"],
                "state": one["state"],
                "image": one["image"],
                "folders": sorted(folders, key=lambda folder: folder["target"]),
                "root": "read-only root"
                if one["read_only"]
                else "everything else: its own layer, removed with it",
            }
        )
    return {"places": places, "containers": containers, "error": ""}


def _place_key(container: Mapping[str, Any], mount: Mapping[str, Any]) -> str:
    if mount["kind"] == "volume":
        return f"volume:{mount['name']}"
    if mount["kind"] == "tmpfs":
        return f"tmpfs:{container['name']}:{mount['target']}"
    return f"bind:{mount['source']}"


def _volume_detail(volume: Mapping[str, Any]) -> str:
    kind = "anonymous volume" if volume["anonymous"] else "volume"
    unused = "" if volume["users"] else ", used by nobody"
    return f"{kind}, {_size(int(volume['bytes']))}{unused}"


def _size(count: int) -> str:
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def describe(state: Mapping[str, Any]) -> str:
    """The view as text."""
    if not state["containers"] and not state["places"]:
        return "Mounts: no container and no volume."
    lines = ["Mounts: where the files of containers are kept."]
    for one in state["containers"]:
        lines += ["", f"container {one['name']} ({one['image']}, {one['state']})"]
        for folder in one["folders"]:
            place = state["places"][folder["place"]]
            way = "" if folder["writable"] else ", read only"
            lines.append(f"  {folder['target']}  <-  {place['name']} ({place['detail']}){way}")
        lines.append(f"  {one['root']}")
    joined = {folder["place"] for one in state["containers"] for folder in one["folders"]}
    loose = [place for key, place in state["places"].items() if key not in joined]
    if loose:
        lines += ["", "not mounted anywhere:"]
        lines += [f"  {place['name']} ({place['detail']})" for place in loose]
    return "\n".join(lines)


def draw(state: Mapping[str, Any]) -> str:
    """The view as an SVG document. Groups carry data-id, lines data-from and data-to, so that
    the live view can light up what belongs together."""
    drawing = Drawing(_WIDTH, "Mounts view", describe(state))
    drawing.text(_PAD, 32, "Mounts", size=17, classes="b")
    drawing.text(
        _WIDTH - _PAD, 32, "places that stay   ·   what containers see", classes="s", anchor="end"
    )
    if not state["containers"] and not state["places"]:
        drawing.text(_PAD, 66, "No container and no volume.", classes="s")
        return drawing.document(84)
    middles: dict[str, float] = {}
    y = 52.0
    for key, place in state["places"].items():
        middles[key] = y + _PLACE_H / 2
        _place(drawing, key, place, y)
        y += _PLACE_H + 10
    right = 52.0
    for one in state["containers"]:
        right = _container(drawing, one, middles, state["places"], right) + 14
    return drawing.document(max(y, right) + 6)


def _place(drawing: Drawing, key: str, place: Mapping[str, Any], y: float) -> None:
    colour = _COLOURS[place["kind"]]
    drawing.raw(_group(key, f"{place['name']}, {place['detail']}"))
    drawing.rect(_PAD, y, _LEFT, _PLACE_H, fill="var(--back)", stroke="var(--line)", radius=8)
    drawing.rect(_PAD, y + 6, 5, _PLACE_H - 12, fill=colour, radius=2)
    drawing.text(_PAD + 16, y + 20, fit(place["name"], _LEFT - 26, 13), size=13, classes="b")
    drawing.text(_PAD + 16, y + 36, place["detail"], size=11, classes="s")
    drawing.raw("</g>")


def _container(
    drawing: Drawing,
    one: Mapping[str, Any],
    middles: Mapping[str, float],
    places: Mapping[str, Mapping[str, Any]],
    y: float,
) -> float:
    x = _WIDTH - _PAD - _RIGHT
    height = 62 + _ROW * len(one["folders"])
    name = f"container:{one['name']}"
    drawing.raw(_group(name, f"container {one['name']}, {one['state']}"))
    drawing.rect(x, y, _RIGHT, height, fill="var(--panel)", stroke="var(--line)", radius=10)
    drawing.text(x + 14, y + 23, fit(one["name"], 190, 14), size=14, classes="b")
    about = fit(f"{one['image']}, {one['state']}", 180)
    drawing.text(x + _RIGHT - 14, y + 23, about, classes="s", anchor="end")
    for number, folder in enumerate(one["folders"]):
        at = y + 46 + number * _ROW
        drawing.text(x + 14, at, fit(folder["target"], 270, 12, mono=True), size=12, classes="m")
        if not folder["writable"]:
            drawing.text(x + _RIGHT - 14, at, "read only", size=11, classes="s", anchor="end")
    drawing.text(x + 14, y + height - 12, one["root"], size=11, classes="s")
    drawing.raw("</g>")
    for number, folder in enumerate(one["folders"]):
        at = y + 42 + number * _ROW
        colour = _COLOURS[places[folder["place"]]["kind"]]
        dash = "" if folder["writable"] else ' stroke-dasharray="5 4"'
        start, begin, bend = _PAD + _LEFT, middles[folder["place"]], (x - _PAD - _LEFT) / 2
        drawing.raw(
            f'<path data-from="{escape(folder["place"], quote=True)}" '
            f'data-to="{escape(name, quote=True)}" fill="none" stroke="{colour}" '
            f'stroke-width="2"{dash} d="M{start:g},{begin:g} C{start + bend:g},{begin:g} '
            f'{x - bend:g},{at:g} {x:g},{at:g}"/>'
        )
    return y + height


def _group(key: str, label: str) -> str:
    return (
        f'<g data-id="{escape(key, quote=True)}" role="listitem" '
        f'aria-label="{escape(label, quote=True)}">'
    )


def picture(client: LabClient, words: list[str]) -> tuple[str, str]:
    """SVG and text of what is there now."""
    state = mounts_state(client.json("GET", "/v1/views/mounts", query={"container": words}))
    return draw(state), describe(state)
