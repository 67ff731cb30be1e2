"""The layers view as data: the stack from the top down, the tree row by row, two images compared.

Every layer has a number (1 is the lowest) and a colour; the number is written wherever the colour
is used, so that nobody needs the colour to read the picture.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labkit.base.quantities import format_size
from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.svg import text_on

__all__ = ["folders_worth_opening", "layers_state"]

State = dict[str, Any]
_COLOURS = [OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "sky", "yellow")]
_OWN = OKABE_ITO["vermillion"]
_HASH = re.compile(r"\b(?:file|dir|multi):[0-9a-f]{64}")
_DEEDS_MAX = 12
_OPENED_MAX = 8
_HOW = {"added": "+", "replaced": "~", "deleted": "−"}


def layers_state(data: Mapping[str, Any], seen: Collection[str] = ()) -> State:
    """From GET /v1/views/layers to what is drawn.

    `seen` are the paths that the container's own layer held before: what is new in it is marked.
    """
    colours = {layer["number"]: _colour(layer) for layer in data["layers"]}
    largest = max((layer["bytes"] for layer in data["layers"]), default=0)
    layers = [_layer(layer, colours, largest) for layer in reversed(data["layers"])]
    wasted = sum(one["wasted"] for one in data["layers"] if one["kind"] == "image")
    image = data["image"]
    own = next((one for one in data["layers"] if one["kind"] == "writable"), None)
    own_paths = sorted(deed["path"] for deed in own["deeds"]) if own else []
    return {
        "name": data["name"],
        "kind": data["kind"],
        "title": f"Layers of {data['kind']} {data['name']}",
        "facts": _facts(data, wasted),
        "image": {"id": image["id"], "digests": image["digests"], "stand_in": image["stand_in"]},
        "layers": layers,
        "metadata": [_brief(one["instruction"]) for one in data["steps"] if not one["layer"]],
        "wasted": wasted,
        "rows": _rows(data["folders"], colours),
        "own": own_paths,
        "lit": sorted(set(own_paths).difference(seen)),
        "other": _other(data, colours) if data.get("other") else None,
        "error": "",
    }


def folders_worth_opening(data: Mapping[str, Any]) -> list[str]:
    """The root, and the folders in which layers above the lowest did something, best first."""
    wanted: dict[str, int] = {}
    for layer in data["layers"]:
        if layer["kind"] == "init" or (layer["number"] == 1 and len(data["layers"]) > 1):
            continue
        for deed in layer["deeds"][:60]:
            folder = deed["path"].rpartition("/")[0] or "/"
            weight = {"writable": 4}.get(layer["kind"], 1) + 3 * (deed["how"] != "added")
            wanted[folder] = wanted.get(folder, 0) + weight
    best = sorted(wanted, key=lambda folder: (-wanted[folder], folder))[:_OPENED_MAX]
    opened = {"/"}
    for folder in best:
        parts = [part for part in folder.split("/") if part]
        opened.update("/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return sorted(opened)


def _colour(layer: Mapping[str, Any]) -> str:
    if layer["kind"] == "writable":
        return _OWN
    return "" if layer["kind"] == "init" else _COLOURS[(layer["number"] - 1) % len(_COLOURS)]


def _brief(instruction: str) -> str:
    """An instruction whose hashes of copied files are cut to twelve digits."""
    return _HASH.sub(lambda found: found[0][: found[0].index(":") + 13], instruction)


def _ink(colour: str) -> str:
    return text_on(colour) if colour else ""


def _facts(data: Mapping[str, Any], wasted: int) -> list[str]:
    images = [layer for layer in data["layers"] if layer["kind"] == "image"]
    count = f"{len(images)} layer{'' if len(images) == 1 else 's'}"
    facts = [f"{count}, {format_size(data['image']['bytes'], digits=3)}"]
    own = next((layer for layer in data["layers"] if layer["kind"] == "writable"), None)
    if own is not None:
        facts.append(f"the container’s own: {format_size(own['bytes'], digits=3)}")
    facts.append(f"{format_size(wasted, digits=3)} wasted" if wasted else "nothing wasted")
    if data["image"]["stand_in"]:
        facts.append("stand-in")
    return facts


def _layer(layer: Mapping[str, Any], colours: Mapping[int, str], largest: int) -> State:
    colour = colours[layer["number"]]
    hashes = []
    if layer["kind"] == "image":
        blob = layer["blobs"][0] if layer["blobs"] else None
        travels = f"{format_size(blob['bytes'], digits=3)} compressed" if blob else ""
        hashes = [
            {"name": "digest", "value": blob["digest"] if blob else "", "note": travels},
            {"name": "diff-id", "value": layer["diff_id"], "note": ""},
            {"name": "chain-id", "value": layer["chain_id"], "note": ""},
        ]
    deeds = [_deed(deed, layer["kind"]) for deed in layer["deeds"]]
    total = layer["added"] + layer["replaced"] + layer["deleted"]
    return {
        "number": layer["number"],
        "kind": layer["kind"],
        "colour": colour,
        "ink": _ink(colour),
        "instruction": _brief(layer["instruction"]) or "(the image’s history does not say)",
        "size": format_size(layer["bytes"], digits=3),
        "share": layer["bytes"] / largest if largest else 0.0,
        "hashes": hashes,
        "summary": _summary(layer),
        "deeds": deeds[:_DEEDS_MAX],
        "more": max(0, total - len(deeds[:_DEEDS_MAX])),
    }


def _summary(layer: Mapping[str, Any]) -> str:
    counts = [f"{layer[how]} {how}" for how in ("added", "replaced", "deleted") if layer[how]]
    words = ", ".join(counts) or "no file changed"
    if layer["wasted"]:
        hidden = format_size(layer["wasted"], digits=3)
        words += f"; hides {hidden} of the layers below"
    return words if layer["complete"] else f"{words} (too many to look at all)"


def _deed(deed: Mapping[str, Any], kind: str) -> State:
    below = ", ".join(str(one["layer"]) for one in deed["hides"])
    size = format_size(deed["bytes"], digits=3)
    if deed["how"] == "added":
        words = size if deed["kind"] == "file" else deed["kind"]
    elif deed["how"] == "replaced":
        way = "copied up from" if kind == "writable" else "hides that of"
        words = f"{size}, {way} layer {below}" if below else f"{size}, changed"
    else:
        kept = format_size(sum(one["bytes"] for one in deed["hides"]), digits=3)
        words = f"{kept} stay in layer {below}" if below else "gone"
    return {"path": deed["path"], "how": deed["how"], "mark": _HOW[deed["how"]], "words": words}


# -- the tree -----------------------------------------------------------------------------------


def _rows(folders: Mapping[str, Any], colours: Mapping[int, str]) -> list[State]:
    """The opened folders as rows, each folder's content behind it."""
    rows: list[State] = []

    def add(path: str, depth: int) -> None:
        folder = folders[path]
        for entry in folder["entries"]:
            where = f"{path.rstrip('/')}/{entry['name']}"
            rows.append(_row(where, depth, entry, colours, is_open=where in folders))
            if where in folders:
                add(where, depth + 1)
        if folder["left_out"]:
            text = f"… and {folder['left_out']} more names"
            rows.append(_blank(f"{path.rstrip('/')}/…", depth, text))
        if folder.get("error"):
            rows.append(_blank(f"{path.rstrip('/')}/…", depth, folder["error"]))

    if "/" in folders:
        add("/", 0)
    return rows


def _blank(path: str, depth: int, text: str) -> State:
    return {
        "path": path,
        "name": text,
        "depth": depth,
        "kind": "note",
        "open": False,
        "layer": 0,
        "layers": [],
        "colour": "",
        "ink": "",
        "size": "",
        "words": "",
        "gone": False,
        "notable": True,
    }


def _row(
    path: str, depth: int, entry: Mapping[str, Any], colours: Mapping[int, str], *, is_open: bool
) -> State:
    layer = entry["layer"] or (entry["hidden"][0]["layer"] if entry["hidden"] else 0)
    name = entry["name"] + ("/" if entry["kind"] == "folder" else "")
    if entry["link"]:
        name += f" → {entry['link']}"
    return {
        "path": path,
        "name": name,
        "depth": depth,
        "kind": entry["kind"],
        "open": is_open,
        "layer": layer,
        "layers": entry["layers"],
        "colour": colours.get(layer, ""),
        "ink": _ink(colours.get(layer, "")),
        "size": format_size(entry["bytes"], digits=3) if entry["kind"] == "file" else "",
        "words": _entry_words(entry),
        "gone": not entry["layer"],
        "notable": bool(entry["hidden"]) or layer > 1 or len(entry["layers"]) > 1,
    }


def _entry_words(entry: Mapping[str, Any]) -> str:
    hidden = entry["hidden"]
    if not entry["layer"]:
        kept = ", ".join(str(one["layer"]) for one in reversed(hidden))
        return f"deleted by layer {entry['deleted_by']}, still in layer {kept}"
    if entry["kind"] == "folder" and len(entry["layers"]) > 1:
        merged = ", ".join(str(number) for number in reversed(entry["layers"]))
        return f"merged from layers {merged}"
    if hidden:
        below = ", ".join(str(one["layer"]) for one in hidden)
        kept = format_size(sum(one["bytes"] for one in hidden), digits=3)
        return f"hides layer {below}’s ({kept})"
    return f"one of {entry['names']} names of the same file" if entry.get("names", 1) > 1 else ""


# -- two images ---------------------------------------------------------------------------------


def _other(data: Mapping[str, Any], colours: Mapping[int, str]) -> State:
    other = data["other"]
    mine = [layer for layer in data["layers"] if layer["kind"] == "image"]
    pairs = []
    for number in range(max(len(mine), len(other["layers"])), 0, -1):
        left, right = _at(mine, number), _at(other["layers"], number)
        pairs.append(
            {
                "number": number,
                "same": number <= other["shared"],
                "colour": colours.get(number, _COLOURS[(number - 1) % len(_COLOURS)]),
                "left": _side(left),
                "right": _side(right),
            }
        )
    found = other["differences"]
    counts = [
        f"{found[how]} {word}"
        for how, word in (
            ("changed", "changed"),
            ("added", "only there"),
            ("removed", "only here"),
            ("touched", "with other rights, owner or time"),
        )
        if found[how]
    ]
    shared = other["shared"]
    if shared == len(mine) == len(other["layers"]):
        same = "every layer is the same"
    elif not shared:
        same = "no layer is the same from the bottom up"
    else:
        same = f"the lowest {shared} layer{' is' if shared == 1 else 's are'} the same"
    return {
        "name": other["name"],
        "title": f"Compared with {other['name']}: {same}",
        "counts": ", ".join(counts) or "no file differs",
        "pairs": pairs,
        "files": [_different(one) for one in found["files"][:60]],
        "more": max(0, sum(found[how] for how in _SUMS) - 60),
    }


_SUMS = ("added", "removed", "changed", "touched")


def _at(layers: Sequence[Mapping[str, Any]], number: int) -> Mapping[str, Any] | None:
    return layers[number - 1] if number <= len(layers) else None


def _side(layer: Mapping[str, Any] | None) -> State | None:
    if layer is None:
        return None
    return {
        "instruction": _brief(layer["instruction"]),
        "diff_id": layer["diff_id"],
        "size": format_size(layer["bytes"], digits=3),
    }


def _different(one: Mapping[str, Any]) -> State:
    parts = []
    for side, word in (("before", "here"), ("after", "there")):
        if one[side] is not None:
            size = format_size(one[side]["bytes"], digits=3)
            parts.append(f"{word} {size} from layer {one[side]['layer']}")
    marks = {"added": "+", "removed": "−", "changed": "~", "touched": "·"}
    words = ", ".join(parts)
    return {"path": one["path"], "how": one["how"], "mark": marks[one["how"]], "words": words}
