"""A folder of a stack of layers, name by name: which layer provides it, and what lies hidden below.

`union.py` says what overlayfs shows; this says why. The rules are the same
(Documentation/filesystems/overlayfs.rst), but no layer is skipped: a file under a whiteout is still
in its layer, and whoever has the image can read it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.base.errors import NotFound
from labkit.host.image.beneath import is_whiteout, open_directory
from labkit.host.image.changes import same_name
from labkit.host.image.difftree import is_opaque
from labkit.host.image.union import Found, Union

__all__ = ["Source", "folder_entries", "kind_of"]

Json = dict[str, Any]
_ENTRIES_MAX = 600
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def kind_of(mode: int) -> str:
    """file, folder, link, pipe, socket or device."""
    return _KINDS.get(stat.S_IFMT(mode), "file")


@dataclass(frozen=True, slots=True)
class Source:
    """One layer of the stack: its number (1 is the lowest) and its folder.

    `whole` marks a container's complete copy, where there is no overlay: what differs from the
    layers below is what it says.
    """

    number: int
    path: Path
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    """A name as one layer has it."""

    source: Source
    stat: os.stat_result | None
    """None for a whiteout."""
    link: str = ""
    opaque: bool = False
    silent: bool = False
    """A folder that only leads to what differs below it."""


@dataclass(slots=True)
class _Place:
    """A folder in one layer; `hidden` says by which layer, and how, it cannot be seen."""

    source: Source
    fd: int
    hidden: Json | None = None
    below: Found | None = None
    """For a whole copy: the same folder in the layers below."""


@dataclass(slots=True)
class _Name:
    """What classifying the items of one name found: who shows, who is hidden."""

    visible: list[_Item] = field(default_factory=list)
    hidden: list[tuple[_Item, Json]] = field(default_factory=list)
    gone_by: int = 0


def folder_entries(sources: Sequence[Source], path: str) -> Json:
    """What is in `path`, hidden names included. `sources` are topmost first.

    {"path", "entries": [{"name", "kind", "bytes", "names", "mode", "uid", "gid", "link", "layer",
    "layers", "deleted_by", "hidden": [{"layer", "kind", "bytes", "by", "how"}]}], "left_out": n}.
    `layer` is 0 for a name that only hidden layers have; `names` counts a file's hard links.
    Symbolic links are not followed.
    Raises NotFound when no layer has such a folder.
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    with ExitStack() as stack:
        lower = None
        if any(source.whole for source in sources):
            lower = stack.enter_context(Union([one.path for one in sources if not one.whole]))
        places = []
        for source in sources:
            fd = open_directory(source.path)
            stack.callback(os.close, fd)
            below = lower.root if lower is not None and source.whole else None
            places.append(_Place(source, fd, None, below))
        for part in parts:
            places = _descend(places, part, lower, stack)
        if not places:
            raise NotFound(f"no folder /{'/'.join(parts)} in any layer")
        found: dict[str, list[tuple[_Place, _Item]]] = {}
        for place in places:
            for name in sorted(_names(place, lower), key=os.fsencode):
                item = _item(place, name, lower)
                if item is not None:
                    found.setdefault(name, []).append((place, item))
        names = sorted(found, key=lambda name: (not _is_folder(found[name]), os.fsencode(name)))
        entries = [_entry(name, found[name]) for name in names[:_ENTRIES_MAX]]
    return {
        "path": "/" + "/".join(parts),
        "entries": [entry for entry in entries if entry is not None],
        "left_out": max(0, len(names) - _ENTRIES_MAX),
    }


def _is_folder(items: Iterable[tuple[_Place, _Item]]) -> bool:
    return any(item.stat is not None and stat.S_ISDIR(item.stat.st_mode) for _, item in items)


def _names(place: _Place, lower: Union | None) -> set[str]:
    names = set(os.listdir(place.fd))
    if place.source.whole and lower is not None and place.below is not None:
        names.update(lower.names(place.below))
    return names


def _item(place: _Place, name: str, lower: Union | None) -> _Item | None:
    """The name in this layer, or None when the layer says nothing about it."""
    try:
        found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
    except FileNotFoundError:
        found = None
    if place.source.whole:
        before = None
        if lower is not None and place.below is not None:
            before = lower.child(place.below, name)
        if found is None:
            return _Item(place.source, None) if before is not None else None
        if before is not None and same_name(before.stat, found):
            is_folder = stat.S_ISDIR(found.st_mode)
            return _Item(place.source, found, silent=True) if is_folder else None
    elif found is None:
        return None
    elif is_whiteout(found, place.fd, name):
        return _Item(place.source, None)
    link = ""
    if stat.S_ISLNK(found.st_mode):
        try:
            link = os.readlink(name, dir_fd=place.fd)
        except OSError:
            link = "?"  # it was exchanged meanwhile
    opaque = stat.S_ISDIR(found.st_mode) and is_opaque(place.fd, name)
    return _Item(place.source, found, link, opaque)


def _classify(items: Iterable[tuple[_Place, _Item]]) -> _Name:
    """Topmost first: who provides the name, who is hidden, by whom, and how."""
    name = _Name()
    barrier: Json | None = None
    for place, item in items:
        if place.hidden is not None:
            if item.stat is not None:
                name.hidden.append((item, place.hidden))
            continue
        if item.stat is None:
            if barrier is None:
                name.gone_by = 0 if name.visible else item.source.number
            barrier = {"by": item.source.number, "how": "deleted"}
            continue
        is_folder = stat.S_ISDIR(item.stat.st_mode)
        if barrier is None and name.visible and not is_folder:
            barrier = {"by": name.visible[0].source.number, "how": "replaced"}
        if barrier is not None:
            name.hidden.append((item, barrier))
            if not is_folder:  # for what lies further down, this one was first
                barrier = {"by": item.source.number, "how": "replaced"}
            continue
        name.visible.append(item)
        if not is_folder:
            barrier = {"by": item.source.number, "how": "replaced"}
        elif item.opaque:
            barrier = {"by": item.source.number, "how": "deleted"}
    return name


def _descend(
    places: Sequence[_Place], part: str, lower: Union | None, stack: ExitStack
) -> list[_Place]:
    items = [(place, item) for place in places if (item := _item(place, part, lower)) is not None]
    homes = {item.source.number: place for place, item in items}
    name = _classify(items)
    chosen: list[tuple[_Item, Json | None]] = [(item, None) for item in name.visible]
    chosen += name.hidden
    deeper = []
    for item, hidden in sorted(chosen, key=lambda pair: -pair[0].source.number):
        if item.stat is None or not stat.S_ISDIR(item.stat.st_mode):
            continue
        home = homes[item.source.number]
        fd = open_directory(part, dir_fd=home.fd)
        stack.callback(os.close, fd)
        below = None
        if lower is not None and home.below is not None:
            below = lower.child(home.below, part)
            below = below if below is not None and below.is_folder else None
        deeper.append(_Place(item.source, fd, hidden, below))
    return deeper


def _entry(text: str, items: Sequence[tuple[_Place, _Item]]) -> Json | None:
    name = _classify(items)
    shown = name.visible[0] if name.visible else None
    best = shown or (name.hidden[0][0] if name.hidden else None)
    if best is None or best.stat is None:
        return None  # a whiteout of something that no layer here has
    told = [one.source.number for one in name.visible if not one.silent]
    found = best.stat
    return {
        "name": text,
        "kind": kind_of(found.st_mode),
        "bytes": found.st_size if stat.S_ISREG(found.st_mode) else 0,
        "names": found.st_nlink if stat.S_ISREG(found.st_mode) else 1,
        "mode": stat.filemode(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "link": best.link,
        "layer": (told or [name.visible[0].source.number])[0] if name.visible else 0,
        "layers": told,
        "deleted_by": 0 if name.visible else name.gone_by or name.hidden[0][1]["by"],
        "hidden": [
            {
                "layer": item.source.number,
                "kind": kind_of(item.stat.st_mode),
                "bytes": item.stat.st_size if stat.S_ISREG(item.stat.st_mode) else 0,
                **why,
            }
            for item, why in name.hidden
            if item.stat is not None
        ],
    }
