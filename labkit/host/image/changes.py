"""What a container changed, in Docker's words: 0 C(hanged), 1 A(dded), 2 D(eleted).

The rules are those of Docker's overlay2 driver: a folder that was only copied up is not listed by
itself, but it is when something in it appeared or went; editing a file in place lists the file
alone. Order is that of a walk: by path, part by part.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from labkit.host.image.beneath import is_whiteout
from labkit.host.image.difftree import is_opaque
from labkit.host.image.treewalk import walk
from labkit.host.image.union import Found, Union

__all__ = [
    "ADDED",
    "CHANGED",
    "DELETED",
    "Change",
    "overlay_changes",
    "same_name",
    "tree_changes",
]

CHANGED, ADDED, DELETED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Change:
    """One line of `docker diff`."""

    path: str
    kind: int

    @property
    def letter(self) -> str:
        return "CAD"[self.kind]


class _Changes:
    def __init__(self) -> None:
        self._kinds: dict[str, int] = {}

    def add(self, path: str, kind: int) -> None:
        self._kinds[path] = kind
        parent = path.rpartition("/")[0]
        if kind != CHANGED and parent:
            self._kinds.setdefault(parent, CHANGED)

    def sorted(self) -> list[Change]:
        ordered = sorted(
            self._kinds.items(), key=lambda item: [os.fsencode(part) for part in item[0].split("/")]
        )
        return [Change("/" + path, kind) for path, kind in ordered]


def _is_same_folder(one: os.stat_result, other: os.stat_result) -> bool:
    return (
        stat.S_ISDIR(one.st_mode)
        and stat.S_ISDIR(other.st_mode)
        and one.st_mtime_ns == other.st_mtime_ns
        and (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
    )


def overlay_changes(lower: Union, upper_fd: int) -> list[Change]:
    """The changes that an overlay's upper folder holds against the layers below it."""
    changes = _Changes()
    # What the layers below have for each folder on the way to the present name.
    trail: list[Found | None] = [lower.root]
    for path, found, dir_fd, name in walk(upper_fd):
        del trail[path.count("/") + 1 :]
        below = trail[-1]
        before = lower.child(below, name) if below is not None and below.is_folder else None
        if stat.S_ISDIR(found.st_mode):
            trail.append(before)
        if is_whiteout(found, dir_fd, name):
            # A mark for something that only ever lived in the upper layer deletes nothing.
            if before is not None:
                changes.add(path, DELETED)
            continue
        if before is None:
            changes.add(path, ADDED)
            continue
        if not _is_same_folder(found, before.stat):
            changes.add(path, CHANGED)
        if stat.S_ISDIR(found.st_mode) and is_opaque(dir_fd, name):
            trail[-1] = None
            _hidden(changes, lower, before, path, set(os.listdir(f"/proc/self/fd/{dir_fd}/{name}")))
    return changes.sorted()


def _hidden(changes: _Changes, lower: Union, before: Found, path: str, present: set[str]) -> None:
    """A folder was removed and made again: its old names are gone, those present are new."""
    if not before.is_folder:
        return
    for name in lower.names(before):
        if name not in present:
            changes.add(f"{path}/{name}", DELETED)


def tree_changes(lower: Union, upper: Union) -> list[Change]:
    """The changes between two whole trees, where there is no overlay to tell them."""
    changes = _Changes()
    pending: list[tuple[str, Found | None, Found]] = [("", lower.root, upper.root)]
    while pending:
        path, old, new = pending.pop()
        before = set(lower.names(old)) if old is not None else set()
        after = upper.names(new)
        for name in before.difference(after):
            changes.add(f"{path}/{name}".lstrip("/"), DELETED)
        for name in after:
            where = f"{path}/{name}".lstrip("/")
            mine = lower.child(old, name) if old is not None else None
            theirs = upper.child(new, name)
            if theirs is None:
                continue  # a running container removed it meanwhile
            if mine is None:
                changes.add(where, ADDED)
            elif mine.is_folder and theirs.is_folder:
                if not _is_same_folder(mine.stat, theirs.stat):
                    changes.add(where, CHANGED)
            elif not same_name(mine.stat, theirs.stat):
                changes.add(where, CHANGED)
            if theirs.is_folder:
                is_old = mine is not None and mine.is_folder
                pending.append((where, mine if is_old else None, theirs))
    return changes.sorted()


def same_name(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two files look alike: kind, rights, owner, size, time, device."""
    return (one.st_mode, one.st_uid, one.st_gid, one.st_size, one.st_mtime_ns, one.st_rdev) == (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_size,
        other.st_mtime_ns,
        other.st_rdev,
    )
