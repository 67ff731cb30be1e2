"""`%lab chapter NN` and `%lab leave`: a chapter marks what it makes and takes exactly that away."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from html import escape
from typing import Any

from labkit.base.errors import InvalidParameter, LabkitError, Unsupported
from labkit.notebook.magics.line import Notebook
from labkit.notebook.magics.session import CHAPTER_LABEL, CHAPTER_VARIABLE
from labkit.notebook.magics.style import note_html
from labkit.notebook.magics.surface import NotebookSurface, show

__all__ = ["describe", "enter", "leave", "leftovers"]

_IMAGES = {"stand-in": "stand-ins made on this machine", "registry": "from the registry"}
_LEFT_VARIABLE = "LABKIT_CHAPTER_LEFT"


def enter(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    """Begin a chapter: label what it makes, and say in one line what to expect here."""
    if len(words) != 1 or not words[0].isdecimal():
        raise InvalidParameter("%lab chapter needs a number", hint="%lab chapter 01")
    number = words[0].zfill(2)
    os.environ[CHAPTER_VARIABLE] = number
    try:
        status = notebook.session.lab().json("GET", "/v1/status")
    except LabkitError as error:
        surface.err(f"chapter {number}: the lab does not answer: {error.message}\n")
        surface.hint(error.hint or "%lab doctor")
        return 1
    left = leftovers(notebook, number)
    parts = [f"chapter {number}", *describe(status), _left_sentence(left, number)]
    text = " · ".join(parts)
    html = " · ".join(escape(part) for part in parts)
    show(text, note_html(f"<b>labkit</b> {html}"))
    return 0


def describe(status: Mapping[str, Any]) -> list[str]:
    """Mode, limits and images from GET /v1/status, each as a short phrase."""
    parts = [str(status["mode"])]
    limits = status.get("limits", ())
    entries = [entry for entry in limits if isinstance(entry, Mapping)]
    if entries:
        holding = [str(entry["name"]) for entry in entries if entry.get("holds")]
        missing = [str(entry["name"]) for entry in entries if not entry.get("holds")]
        parts.append(f"limits that hold: {', '.join(holding) or 'none'}")
        if missing:
            parts.append(f"not enforced here: {', '.join(missing)}")
    elif limits:
        parts.append(f"limits that hold: {', '.join(map(str, limits))}")
    else:
        parts.append("limits that hold: none")
    images = status.get("images")
    if isinstance(images, Mapping):
        source = str(images.get("source", ""))
        parts.append(f"images: {_IMAGES.get(source, 'the registry is asked at the first pull')}")
    return parts


def leftovers(notebook: Notebook, number: str | None) -> dict[str, list[dict[str, Any]]]:
    """Objects that carry the chapter's label (any chapter's without `number`), by kind."""
    client, lab = notebook.session.docker(), notebook.session.lab()
    label = CHAPTER_LABEL if number is None else f"{CHAPTER_LABEL}={number}"
    query = {"all": True, "filters": {"label": [label]}}
    found = {"containers": client.request("GET", "/containers/json", query=query).json() or []}
    boxes = lab.json("GET", "/v1/boxes") or []
    found["boxes"] = [box for box in boxes if _has_label(box.get("labels"), number)]
    for kind, path, unwrap in (("volumes", "/volumes", True), ("networks", "/networks", False)):
        with contextlib.suppress(Unsupported, LabkitError):
            answer = client.request("GET", path, query={"filters": {"label": [label]}}).json()
            found[kind] = (answer or {}).get("Volumes") or [] if unwrap else answer or []
    with contextlib.suppress(LabkitError):
        query = {"filters": {"label": [label]}}
        found["images"] = client.request("GET", "/images/json", query=query).json() or []
    return found


def _has_label(labels: Mapping[str, str] | None, number: str | None) -> bool:
    value = (labels or {}).get(CHAPTER_LABEL)
    return value is not None and number in (None, value)


def _name(thing: Mapping[str, Any]) -> str:
    names = (
        thing.get("Names")
        or thing.get("RepoTags")
        or [thing.get("Name") or thing.get("name") or thing.get("Id", "?")]
    )
    return str(names[0]).lstrip("/")


def _counted(kind: str, things: list[dict[str, Any]]) -> str:
    word = kind if len(things) > 1 else {"boxes": "box"}.get(kind, kind.removesuffix("s"))
    return f"{word} {', '.join(sorted(map(_name, things)))}"


def _left_sentence(left: Mapping[str, list[dict[str, Any]]], number: str) -> str:
    phrases = [_counted(kind, things) for kind, things in left.items() if things]
    if not phrases:
        return "nothing left from an earlier run"
    return f"left from an earlier run: {'; '.join(phrases)} (%lab leave {number} removes it)"


def leave(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    """Remove what carries the chapter's label, and nothing else.

    Without a number the chapter ends with it. With one it only tidies up after an earlier run.
    """
    number = words[0].zfill(2) if words else os.environ.get(CHAPTER_VARIABLE)
    number = number or os.environ.get(_LEFT_VARIABLE)  # the last cell, run twice
    if not number:
        raise InvalidParameter("no chapter was begun here", hint="%lab leave 01")
    left = leftovers(notebook, number)
    client, lab = notebook.session.docker(), notebook.session.lab()
    removed: dict[str, list[dict[str, Any]]] = {kind: [] for kind in left}
    problems = 0
    for kind, things in left.items():
        for thing in things:
            try:
                if kind == "boxes":
                    lab.json("DELETE", f"/v1/boxes/{thing['id']}")
                else:
                    _remove(client, kind, thing)
            except LabkitError as error:
                problems += 1
                surface.err(f"{_counted(kind, [thing])} was not removed: {error.message}\n")
            else:
                removed[kind].append(thing)
    if not words:
        os.environ[_LEFT_VARIABLE] = number
        os.environ.pop(CHAPTER_VARIABLE, None)
    phrases = [_counted(kind, things) for kind, things in removed.items() if things]
    said = f"removed {'; '.join(phrases)}" if phrases else "nothing to remove"
    surface.out(f"chapter {number}: {said}\n")
    return 1 if problems else 0


def _remove(client: Any, kind: str, thing: Mapping[str, Any]) -> None:
    name = thing["Name"] if kind == "volumes" else thing["Id"]
    query: dict[str, bool] | None = None
    if kind == "containers":
        query = {"force": True, "v": True}
    elif kind == "images":
        query = {"force": True}
    client.request("DELETE", f"/{kind}/{name}", query=query)
