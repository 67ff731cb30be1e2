"""Two stacks of layers side by side: the layers they share, and the files in which they differ."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from labkit.host.image.beneath import open_directory
from labkit.host.image.difftree import is_opaque
from labkit.host.image.layerdeeds import Trail, files_below
from labkit.host.image.layertree import Source, kind_of
from labkit.host.image.treewalk import walk
from labkit.host.image.union import Found, Union

__all__ = ["compare"]

Json = dict[str, Any]
_LISTED_MAX = 400
_WALKED_MAX = 300_000
_COMPARED_BYTES_MAX = 64 << 20
_Pair = tuple[str, Found | None, Found | None]


def compare(one: Sequence[Source], other: Sequence[Source], shared: int) -> Json:
    """Files that differ between two trees. Sources are topmost first; the `shared` lowest are the
    same on both sides, so only what the others mention needs a look.

    {"added", "removed", "changed", "touched", "complete", "files": [{"path", "how", "kind",
    "before", "after"}]}; before and after are {"layer", "bytes"} or None. `touched` means the same
    content with other rights, owner or time.
    """
    counts = {"added": 0, "removed": 0, "changed": 0, "touched": 0}
    files: list[Json] = []
    with ExitStack() as stack:
        left = stack.enter_context(Union([source.path for source in one]))
        right = stack.enter_context(Union([source.path for source in other]))
        names, opaque = _mentioned([*one[: len(one) - shared], *other[: len(other) - shared]])
        complete = len(names) <= _WALKED_MAX
        for folder in opaque:  # what such a folder hides is mentioned by nobody
            for union in (left, right):
                found = Trail(union).find(folder)
                if found is not None and found.is_folder:
                    names.update(path for path, _ in files_below(union, found, folder))
        before, after = Trail(left), Trail(right)
        seen: set[str] = set()
        for name in sorted(names, key=lambda path: [os.fsencode(p) for p in path.split("/")]):
            pair = before.find(name), after.find(name)
            for path, old, new in _pairs(left, right, name, *pair):
                if path in seen:
                    continue
                seen.add(path)
                how = _difference(old, new)
                if not how:
                    continue
                counts[how] += 1
                if len(files) < _LISTED_MAX:
                    files.append(_row(path, how, old, new, one, other))
    return {**counts, "complete": complete, "files": files}


def _mentioned(sources: Sequence[Source]) -> tuple[set[str], set[str]]:
    """Names that these layers say something about, and the folders that hide what is below."""
    names: set[str] = set()
    opaque: set[str] = set()
    for source in sources:
        fd = open_directory(source.path)
        try:
            for path, found, dir_fd, name in walk(fd):
                names.add(path)
                if stat.S_ISDIR(found.st_mode) and is_opaque(dir_fd, name):
                    opaque.add(path)
                if len(names) > _WALKED_MAX:
                    return names, opaque
        finally:
            os.close(fd)
    return names, opaque


def _pairs(
    left: Union, right: Union, path: str, old: Found | None, new: Found | None
) -> list[_Pair]:
    """One name as files on both sides: a folder that only one side has stands for its files."""
    if old is not None and old.is_folder and (new is None or not new.is_folder):
        gone: list[_Pair] = [(where, found, None) for where, found in files_below(left, old, path)]
        return [*gone, (path, None, new)] if new is not None else gone
    if new is not None and new.is_folder and (old is None or not old.is_folder):
        come: list[_Pair] = [(where, None, found) for where, found in files_below(right, new, path)]
        return [(path, old, None), *come] if old is not None else come
    return [(path, old, new)]


def _difference(old: Found | None, new: Found | None) -> str:
    if old is None or new is None:
        return "removed" if old is not None else "added" if new is not None else ""
    one, other = old.stat, new.stat
    same_metadata = (one.st_mode, one.st_uid, one.st_gid, one.st_mtime_ns) == (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_mtime_ns,
    )
    if old.is_folder and new.is_folder:
        return ""
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
        return "changed"
    if not _same_content(old, new):
        return "changed"
    return "" if same_metadata else "touched"


def _same_content(old: Found, new: Found) -> bool:
    if stat.S_ISLNK(old.stat.st_mode):
        return os.readlink(old.name, dir_fd=old.dir_fd) == os.readlink(new.name, dir_fd=new.dir_fd)
    if not stat.S_ISREG(old.stat.st_mode):
        return old.stat.st_rdev == new.stat.st_rdev
    one, other = old.stat, new.stat
    if one.st_size != other.st_size:
        return False
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino):
        return True
    if one.st_size > _COMPARED_BYTES_MAX:  # too much to read for a picture: time decides
        return one.st_mtime_ns == other.st_mtime_ns
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with (
        os.fdopen(os.open(old.name, flags, dir_fd=old.dir_fd), "rb") as first,
        os.fdopen(os.open(new.name, flags, dir_fd=new.dir_fd), "rb") as second,
    ):
        while piece := first.read(1 << 18):
            if piece != second.read(1 << 18):
                return False
        return not second.read(1)


def _row(
    path: str,
    how: str,
    old: Found | None,
    new: Found | None,
    one: Sequence[Source],
    other: Sequence[Source],
) -> Json:
    found = new or old
    assert found is not None, path
    return {
        "path": f"/{path}",
        "how": how,
        "kind": kind_of(found.stat.st_mode),
        "before": _side(old, one),
        "after": _side(new, other),
    }


def _side(found: Found | None, sources: Sequence[Source]) -> Json | None:
    if found is None:
        return None
    size = found.stat.st_size if stat.S_ISREG(found.stat.st_mode) else 0
    return {"layer": sources[found.layer].number, "bytes": size}
