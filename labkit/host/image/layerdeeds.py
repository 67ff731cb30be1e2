"""What each layer of a stack does: files it adds, replaces and deletes, and the bytes it wastes.

A file that a higher layer replaces or deletes is still downloaded and kept: those bytes are wasted.
Each hidden file is counted once, at the layer that first hides it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from labkit.host.image.beneath import is_whiteout, open_directory
from labkit.host.image.difftree import is_opaque
from labkit.host.image.layertree import Source, kind_of
from labkit.host.image.treewalk import walk
from labkit.host.image.union import Found, Union

__all__ = ["Trail", "deeds_of", "files_below"]

Json = dict[str, Any]
_LISTED_MAX = 400
_WALKED_MAX = 300_000


class Trail:
    """Looks names up in a union while a walk goes through the same names in order.

    It keeps the folders on the way, so that each step costs one look and few descriptors.
    """

    def __init__(self, union: Union) -> None:
        self._union = union
        self._folders: list[tuple[str, Found | None]] = [("", union.root)]

    def find(self, path: str) -> Found | None:
        """What `path` is in the union (links are not followed), or None."""
        parts = path.split("/")
        depth = 0
        while depth < len(parts) - 1 and depth + 1 < len(self._folders):
            if self._folders[depth + 1][0] != parts[depth]:
                break
            depth += 1
        del self._folders[depth + 1 :]
        for part in parts[depth:-1]:
            self._folders.append((part, self._child(self._folders[-1][1], part)))
        return self._child(self._folders[-1][1], parts[-1])

    def _child(self, folder: Found | None, name: str) -> Found | None:
        return self._union.child(folder, name) if folder is not None and folder.is_folder else None


def files_below(union: Union, folder: Found, path: str) -> Iterator[tuple[str, Found]]:
    """Everything but folders in a folder of the union, deep."""
    pending = [(path, folder)]
    while pending:
        where, current = pending.pop()
        for name in union.names(current):
            found = union.child(current, name)
            if found is None:
                continue  # a running container removed it meanwhile
            if found.is_folder:
                pending.append((f"{where}/{name}", found))
            else:
                yield f"{where}/{name}", found


def deeds_of(source: Source, below: Sequence[Source]) -> Json:
    """What one layer does to those `below` it (topmost first).

    {"files", "added", "replaced", "deleted", "wasted", "complete", "deeds": [{"path", "kind",
    "bytes", "how", "hides": [{"layer", "bytes"}]}]}: `wasted` are the bytes it hides, `deeds` the
    first of what it does with whatever hides something first; `complete` is False when there was
    too much to walk.
    """
    account = _Account()
    with ExitStack() as stack:
        lower = stack.enter_context(Union([one.path for one in below])) if below else None
        trail = Trail(lower) if lower is not None else None
        numbers = [one.number for one in below]
        fd = open_directory(source.path)
        stack.callback(os.close, fd)
        for path, found, dir_fd, name in walk(fd):
            account.walked += 1
            if account.walked > _WALKED_MAX:
                account.complete = False
                break
            before = trail.find(path) if trail is not None else None
            _judge(account, lower, numbers, path, found, before, dir_fd, name)
    return account.told()


class _Account:
    def __init__(self) -> None:
        self.walked = self.wasted = 0
        self.complete = True
        self.counts = {"added": 0, "replaced": 0, "deleted": 0}
        self._hiding: list[Json] = []
        self._adding: list[Json] = []

    def note(self, path: str, kind: str, size: int, how: str, hides: list[Json]) -> None:
        self.counts[how] += 1
        self.wasted += sum(one["bytes"] for one in hides)
        deeds = self._hiding if how != "added" else self._adding
        if len(deeds) < _LISTED_MAX:
            row = {"path": f"/{path}", "kind": kind, "bytes": size, "how": how, "hides": hides}
            deeds.append(row)

    def told(self) -> Json:
        room = max(0, _LISTED_MAX - len(self._hiding))
        deeds = [*self._hiding, *self._adding[:room]]
        return {
            "files": self.counts["added"] + self.counts["replaced"],
            **self.counts,
            "wasted": self.wasted,
            "complete": self.complete,
            "deeds": deeds,
        }


def _judge(
    account: _Account,
    lower: Union | None,
    numbers: Sequence[int],
    path: str,
    found: os.stat_result,
    before: Found | None,
    dir_fd: int,
    name: str,
) -> None:
    """Write down what one name of a layer does."""
    if is_whiteout(found, dir_fd, name):
        if before is not None:
            kind = kind_of(before.stat.st_mode)
            account.note(path, kind, 0, "deleted", _hidden(lower, before, path, numbers))
        return
    if stat.S_ISDIR(found.st_mode):
        if before is not None and (not before.is_folder or is_opaque(dir_fd, name)):
            account.note(path, "folder", 0, "replaced", _hidden(lower, before, path, numbers))
        return
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    how = "added" if before is None else "replaced"
    hides = _hidden(lower, before, path, numbers) if before is not None else []
    account.note(path, kind_of(found.st_mode), size, how, hides)


def _hidden(lower: Union | None, before: Found, path: str, numbers: Sequence[int]) -> list[Json]:
    """Which layers' bytes disappear with a name: one sum for each layer."""
    sums: dict[int, int] = {}
    if not before.is_folder:
        sums[numbers[before.layer]] = _size(before)
    elif lower is not None:
        sums[numbers[before.layer]] = 0
        with suppress(FileNotFoundError):
            for _, one in files_below(lower, before, path):
                number = numbers[one.layer]
                sums[number] = sums.get(number, 0) + _size(one)
    return [{"layer": number, "bytes": count} for number, count in sorted(sums.items())]


def _size(found: Found) -> int:
    """The bytes that go with one name: a file with several names counts in equal parts."""
    if not stat.S_ISREG(found.stat.st_mode):
        return 0
    return found.stat.st_size // max(1, found.stat.st_nlink)
