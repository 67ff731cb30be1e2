"""The layers view as text and as a static drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labkit.notebook.widgets.layers_state import folders_worth_opening, layers_state
from labkit.notebook.widgets.svg import Drawing, fit

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["describe", "draw", "layers_state", "picture", "query_of"]

_WIDTH, _PAD, _BAND, _ROW = 920, 18, 52, 21
_ROWS_MAX = 44
_FILES_MAX = 24


def query_of(words: list[str], folders: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """The query of GET /v1/views/layers for what the user typed."""
    query: dict[str, Any] = {"of": words[0] if words else "", "path": list(folders)}
    if len(words) > 1:
        query["other"] = words[1]
    return query


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _notable(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rows worth a place in a picture that cannot scroll; runs of others become one row."""
    skipped: dict[int, int] = {}
    rows = state["rows"]
    single = sum(layer["kind"] == "image" for layer in state["layers"]) == 1
    for number, row in enumerate(rows):
        depth = row["depth"]
        if row["notable"] or row["open"] or (single and depth == 0):
            yield row
        else:
            skipped[depth] = skipped.get(depth, 0) + 1
        following = rows[number + 1]["depth"] if number + 1 < len(rows) else -1
        for ended in sorted((one for one in skipped if one > following), reverse=True):
            count = skipped.pop(ended)
            text = f"and {count} more from layer 1"
            yield {**row, "name": text, "depth": ended, "kind": "note", "words": "", "size": ""}


# -- text ---------------------------------------------------------------------------------------


def describe(state: Mapping[str, Any]) -> str:
    """The view as text, for screen readers and for places that show no picture."""
    lines = [f"{state['title']}: {'; '.join(state['facts'])}.", "", "From the top down:"]
    for layer in state["layers"]:
        lines.append(f"  {layer['number']}  {layer['size']:>8}  {layer['instruction']}")
        lines.append(f"               {layer['summary']}")
        for one in layer["hashes"]:
            value = one["value"] or "not yet made: it is when the image is pushed or saved"
            note = f" ({one['note']})" if one["note"] else ""
            lines.append(f"               {one['name']:<8} {value}{note}")
        if layer["kind"] == "writable" or layer["number"] > 1:
            told = layer["deeds"] if layer["kind"] != "init" else []
            lines += [f"               {one['mark']} {one['path']}  {one['words']}" for one in told]
            if layer["more"] and layer["kind"] != "init":
                lines.append(f"               and {layer['more']} more")
    if state["metadata"]:
        lines += ["", f"Steps without a layer: {'; '.join(state['metadata'])}"]
    rows = list(_notable(state))
    if rows:
        lines += ["", "Files, with the layer they come from:"]
    for row in rows:
        lines.append(_text_row(row))
    lines += _text_other(state["other"]) if state["other"] else []
    if state.get("error"):
        lines += ["", f"Not up to date: {state['error']}"]
    return "\n".join(lines)


def _text_row(row: Mapping[str, Any]) -> str:
    name = "  " * row["depth"] + row["name"]
    if row["kind"] == "note":
        return f"      {name}"
    tail = "  ".join(word for word in (row["size"], row["words"]) if word)
    gone = "(gone) " if row["gone"] else ""
    return f"  {row['layer']:>2}  {gone}{name}" + (f"   {tail}" if tail else "")


def _text_other(other: Mapping[str, Any]) -> list[str]:
    lines = ["", f"{other['title']}; files: {other['counts']}."]
    for pair in other["pairs"]:
        word = "same     " if pair["same"] else "different"
        sides = [
            f"{_short(side['diff_id'])} {side['size']}" if side else "none"
            for side in (pair["left"], pair["right"])
        ]
        lines.append(f"  {pair['number']:>2}  {word}  here {sides[0]}, there {sides[1]}")
    lines += [
        f"  {one['mark']} {one['path']}  {one['how']}: {one['words']}" for one in other["files"]
    ]
    return lines


# -- the drawing --------------------------------------------------------------------------------


def draw(state: Mapping[str, Any]) -> str:
    """The view as an SVG document."""
    drawing = Drawing(_WIDTH, state["title"], describe(state))
    drawing.text(_PAD, 32, fit(state["title"], 480, 17), size=17, classes="b")
    drawing.text(_WIDTH - _PAD, 32, "   ·   ".join(state["facts"]), classes="s", anchor="end")
    y = 50.0
    for layer in state["layers"]:
        y = _band(drawing, layer, y)
    if state["metadata"]:
        said = f"steps without a layer:  {'   ·   '.join(state['metadata'])}"
        drawing.text(_PAD, y + 14, fit(said, _WIDTH - 2 * _PAD, 11), size=11, classes="s")
        y += 22
    y = _tree(drawing, state, y + 12)
    if state["other"]:
        y = _comparison(drawing, state["other"], y + 12)
    return drawing.document(y + 10)


def _badge(drawing: Drawing, one: Mapping[str, Any], x: float, y: float, size: float) -> None:
    if one["colour"]:
        drawing.rect(x, y, size, size, fill=one["colour"], radius=5)
    else:
        drawing.rect(x, y, size, size, stroke="var(--soft)", dash="3 2", radius=5)
    text = str(one.get("number") or one.get("layer"))
    at = x + size / 2, y + size * 0.72
    drawing.text(*at, text, size=size * 0.56, classes="b", fill=one["ink"], anchor="middle")


def _band(drawing: Drawing, layer: Mapping[str, Any], y: float) -> float:
    width = _WIDTH - 2 * _PAD
    deeds = [] if layer["kind"] == "init" or layer["number"] == 1 else layer["deeds"][:4]
    height = (_BAND if layer["hashes"] else 45 if deeds else 42) + 17 * len(deeds)
    dash = "5 4" if layer["kind"] != "image" else ""
    drawing.rect(
        _PAD, y, width, height, fill="var(--panel)", stroke="var(--line)", radius=8, dash=dash
    )
    _badge(drawing, layer, _PAD + 8, y + 7, 24)
    left, right = _PAD + 44, _WIDTH - _PAD - 12
    mono = layer["kind"] == "image"
    drawing.text(
        left,
        y + 19,
        fit(layer["instruction"], 470, 12, mono=mono),
        size=12,
        classes="m" if mono else "b",
    )
    drawing.text(right, y + 19, layer["size"], size=12, classes="b", anchor="end")
    drawing.rect(right - 250, y + 10, 170, 9, stroke="var(--line)", radius=4)
    if layer["share"] > 0:
        colour = layer["colour"] or "var(--soft)"
        drawing.rect(right - 250, y + 10, max(2.0, 170 * layer["share"]), 9, fill=colour, radius=4)
    drawing.text(right, y + 34, fit(layer["summary"], 420, 11), size=11, classes="s", anchor="end")
    at = y + 40
    if layer["hashes"]:
        said = " · ".join(f"{one['name']} {_short(one['value']) or '–'}" for one in layer["hashes"])
        drawing.text(left, y + 44, said, size=10.5, classes="m s")
        at = y + 50
    for number, deed in enumerate(deeds):
        line = at + 11 + 17 * number
        drawing.text(left, line, deed["mark"], size=12, classes="m b")
        drawing.text(left + 16, line, fit(deed["path"], 400, 11.5, mono=True), classes="m")
        more = (
            f"   and {layer['more'] + len(layer['deeds']) - 4} more"
            if (number == 3 and layer["more"] + len(layer["deeds"]) > 4)
            else ""
        )
        drawing.text(
            right, line, fit(deed["words"] + more, 420, 11), size=11, classes="s", anchor="end"
        )
    return y + height + 6


def _tree(drawing: Drawing, state: Mapping[str, Any], y: float) -> float:
    rows = list(_notable(state))
    if not rows:
        return y
    drawing.text(
        _PAD, y + 12, "Files: what is seen, and which layer it comes from", size=13, classes="b"
    )
    y += 24
    for row in rows[:_ROWS_MAX]:
        x = _PAD + 34 + 18 * row["depth"]
        if row["kind"] == "note":
            drawing.text(x, y + 13, row["name"], size=11, classes="s")
        else:
            _badge(drawing, row, _PAD + 4, y + 1, 17)
            style = "m s" if row["gone"] else "m"
            drawing.text(x, y + 14, fit(row["name"], 420, 12, mono=True), classes=style)
            if row["gone"]:
                length = min(len(row["name"]), 57) * 7.3
                drawing.rect(x, y + 9.4, length, 1.2, fill="var(--soft)", radius=0)
            drawing.text(_PAD + 560, y + 14, row["size"], size=11, classes="s", anchor="end")
            drawing.text(_PAD + 580, y + 14, fit(row["words"], 300, 11), size=11, classes="s")
        y += _ROW
    if len(rows) > _ROWS_MAX:
        drawing.text(_PAD + 34, y + 13, f"… and {len(rows) - _ROWS_MAX} more rows", classes="s")
        y += _ROW
    return y


def _comparison(drawing: Drawing, other: Mapping[str, Any], y: float) -> float:
    drawing.text(_PAD, y + 14, fit(other["title"], 660, 14), size=14, classes="b")
    drawing.text(_WIDTH - _PAD, y + 14, fit(other["counts"], 300), classes="s", anchor="end")
    y += 26
    half = (_WIDTH - 2 * _PAD - 60) / 2
    for pair in other["pairs"]:
        for side, x in ((pair["left"], _PAD), (pair["right"], _PAD + half + 60)):
            if side is None:
                drawing.rect(x, y, half, 24, stroke="var(--line)", dash="4 3")
                drawing.text(x + 10, y + 16, "no such layer", size=11, classes="s")
                continue
            drawing.rect(x, y, half, 24, fill="var(--panel)", stroke="var(--line)")
            drawing.rect(x, y, 5, 24, fill=pair["colour"], radius=2)
            drawing.text(
                x + 14, y + 16, f"{pair['number']}  {_short(side['diff_id'])}", classes="m"
            )
            drawing.text(
                x + 136, y + 16, fit(side["instruction"], half - 210, 11), size=11, classes="s"
            )
            drawing.text(x + half - 10, y + 16, side["size"], size=11, anchor="end")
        middle = _PAD + half + 30
        drawing.text(
            middle, y + 17, "=" if pair["same"] else "≠", size=15, classes="b", anchor="middle"
        )
        y += 29
    for one in other["files"][:_FILES_MAX]:
        drawing.text(_PAD + 4, y + 14, one["mark"], classes="m b")
        drawing.text(_PAD + 22, y + 14, fit(one["path"], 430, 12, mono=True), classes="m")
        drawing.text(
            _WIDTH - _PAD,
            y + 14,
            fit(f"{one['how']}: {one['words']}", 420, 11),
            size=11,
            classes="s",
            anchor="end",
        )
        y += _ROW
    left_out = other["more"] + max(0, len(other["files"]) - _FILES_MAX)
    if left_out:
        drawing.text(_PAD + 22, y + 14, f"… and {left_out} more", classes="s")
        y += _ROW
    return y


def picture(client: LabClient, words: list[str]) -> tuple[str, str]:
    """SVG and text of what is there now."""
    first = client.json("GET", "/v1/views/layers", query=query_of(words))
    folders = folders_worth_opening(first)
    state = layers_state(client.json("GET", "/v1/views/layers", query=query_of(words, folders)))
    return draw(state), describe(state)
