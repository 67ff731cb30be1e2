"""Which blobs of an image travelled, drawn from what a push or a pull said.

    sent = %docker push localhost:5000/web:2
    transfer(sent, "localhost:5000/web:2")

A blob's fate is the last word the engine said of it; its size and digest are those of the manifest
that the registry keeps. Nothing is measured here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.ids import short_id
from labkit.base.quantities import format_size
from labkit.notebook.magics.style import OKABE_ITO
from labkit.notebook.widgets.svg import Drawing, fit

__all__ = ["Blob", "blobs_of", "draw", "transfer"]

_SAID = re.compile(r"^([0-9a-f]{12}): (.+?)\s*$", re.MULTILINE)
_WIDTH = 720
_ROW = 34
_TOP = 74
_BAR_X, _BAR_WIDTH = 230, 190
_TRAVELLED, _THERE, _MOUNTED = "travelled", "was there already", "taken from another repository"
_COLOURS = {
    _TRAVELLED: OKABE_ITO["vermillion"],
    _MOUNTED: OKABE_ITO["sky"],
    _THERE: OKABE_ITO["green"],
}
_FATES = {
    "Pushed": _TRAVELLED,
    "Pull complete": _TRAVELLED,
    "Layer already exists": _THERE,
    "Already exists": _THERE,
}


@dataclass(frozen=True, slots=True)
class Blob:
    """One layer: its distribution digest, its bytes as they travel, and what became of it."""

    digest: str
    size: int
    fate: str


def blobs_of(said: str, manifest: dict[str, Any], diff_ids: list[str]) -> list[Blob]:
    """The layers of a manifest with what a push (which names diff-ids) or a pull (which names
    digests) said of them. A pull that said nothing of a layer had no need of it.

    Raises InvalidParameter where the words are not those of a push or a pull.
    """
    if "Pulling from" not in said and "The push refers to" not in said:
        raise InvalidParameter(
            "these are not the words of a push or a pull",
            hint="sent = %docker push NAME, then transfer(sent, NAME)",
        )
    words = dict(_SAID.findall(said))
    found = []
    for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True):
        names = (short_id(diff_id), short_id(layer["digest"]))
        word = next((words[name] for name in names if name in words), "Already exists")
        fate = _MOUNTED if word.startswith("Mounted from") else _FATES.get(word, word)
        found.append(Blob(layer["digest"], layer["size"], fate))
    return found


def draw(image: str, blobs: list[Blob]) -> tuple[str, str]:
    """The picture and its text twin: the lowest layer is the first row."""
    moved = sum(blob.size for blob in blobs if blob.fate == _TRAVELLED)
    whole = sum(blob.size for blob in blobs)
    summary = f"{format_size(moved)} of {format_size(whole)} travelled"
    lines = [f"{image}: {summary}"]
    drawing = Drawing(_WIDTH, f"Blob transfer of {image}", "")
    drawing.text(20, 32, fit(image, 420, 16), size=16, classes="b")
    drawing.text(_WIDTH - 20, 32, summary, size=14, anchor="end")
    drawing.text(20, 58, "layer (digest of the blob)", classes="s")
    drawing.text(_BAR_X, 58, "size, compressed", classes="s")
    largest = max((blob.size for blob in blobs), default=1) or 1
    for number, blob in enumerate(blobs):
        y = _TOP + number * _ROW
        colour = _COLOURS.get(blob.fate, "var(--line)")
        size = format_size(blob.size)
        filled = max(3.0, _BAR_WIDTH * blob.size / largest)
        drawing.text(20, y + 17, short_id(blob.digest), classes="m")
        drawing.text(130, y + 17, "lowest layer" if number == 0 else "", classes="s", size=11)
        drawing.rect(_BAR_X, y + 4, _BAR_WIDTH, 18, fill="var(--panel)", stroke="var(--line)")
        drawing.rect(
            _BAR_X, y + 4, filled, 18, fill=colour if blob.fate == _TRAVELLED else "none",
            stroke=colour, stroke_width=2, dash="" if blob.fate == _TRAVELLED else "4 3",
        )  # fmt: skip
        drawing.text(_BAR_X + _BAR_WIDTH + 10, y + 17, size, classes="m", size=11)
        drawing.text(_WIDTH - 20, y + 17, blob.fate, anchor="end")
        lines.append(f"  {short_id(blob.digest)}  {size:>8}  {blob.fate}")
    return drawing.document(_TOP + len(blobs) * _ROW + 12), "\n".join(lines)


def transfer(said: Any, image: str) -> None:
    """Display which layers of `image` travelled, from the words of a push or a pull of it."""
    from labkit.notebook.client import Client, LabClient
    from labkit.notebook.commands.docker.config_file import auth_header
    from labkit.notebook.commands.docker.reference import parse_image_name
    from labkit.notebook.widgets import show_static

    name = parse_image_name(image)
    query = {"of": image, "insecure": False}
    lab, docker = LabClient(), Client.from_environment()
    try:
        headers = auth_header(name.domain)
        manifest = lab.request("GET", "/v1/images/manifest", query=query, headers=headers).json()
        if "manifests" in manifest:
            raise InvalidParameter(
                f"{image} is a list of manifests", hint="name the one image in it by its digest"
            )
        details = docker.json("GET", f"/images/{image}/json")
    finally:
        lab.close()
        docker.close()
    show_static(*draw(image, blobs_of(str(said), manifest, details["RootFS"]["Layers"])))
