"""See a stack of layers as one tree, without mounting it: for stopped containers and for diffs.

The rules are overlayfs's (Documentation/filesystems/overlayfs.rst): the topmost name wins, folders
merge, a character device 0:0 ends the search, an opaque folder hides what is below it. Links are
followed inside the stack only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from labkit.host.image.beneath import is_whiteout, open_directory
from labkit.host.image.difftree import is_opaque

__all__ = ["Found", "Union"]

_MAX_LINKS = 40


@dataclass(slots=True)
class Found:
    """A name in the stack: its lstat, the folder (by descriptor) and layer that provide it."""

    name: str
    stat: os.stat_result
    dir_fd: int
    layer: int
    """0 is the topmost layer."""
    folders: list[tuple[int, int]] = field(default_factory=list)
    """For a folder: (layer, descriptor) of each one merged into it, topmost first."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


class Union:
    """The union of `layers` (topmost first). A context manager: it holds descriptors."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._stack = ExitStack()
        roots = []
        try:
            for number, layer in enumerate(layers):
                roots.append((number, self._keep(open_directory(layer))))
        except BaseException:
            self._stack.close()
            raise
        top = roots[0][1]
        self._root = Found("", os.fstat(top), top, 0, roots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _keep(self, fd: int) -> int:
        self._stack.callback(os.close, fd)
        return fd

    @property
    def root(self) -> Found:
        return self._root

    def child(self, folder: Found, name: str) -> Found | None:
        """What `name` is in `folder`, or None."""
        best: Found | None = None
        for layer, fd in folder.folders:
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_whiteout(found):
                return best
            if not stat.S_ISDIR(found.st_mode):
                return best or Found(name, found, fd, layer)
            if best is None:
                best = Found(name, found, fd, layer)
            best.folders.append((layer, self._keep(open_directory(name, dir_fd=fd))))
            if is_opaque(fd, name):
                return best
        return best

    def lookup(self, path: str, *, follow: bool = True) -> Found:
        """The name at `path`; links on the way are followed, the last one if `follow`.

        Raises FileNotFoundError, NotADirectoryError or OSError(ELOOP).
        """
        trail = [self._root]
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            if not trail[-1].is_folder:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            found = self.child(trail[-1], part)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if stat.S_ISLNK(found.stat.st_mode) and (pending or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(part, dir_fd=found.dir_fd)
                if target.startswith("/"):
                    del trail[1:]
                pending += [word for word in reversed(target.split("/")) if word not in ("", ".")]
                continue
            trail.append(found)
        return trail[-1]

    def open(self, path: str) -> int:
        """Open a regular file for reading; returns a descriptor that the caller closes."""
        found = self.lookup(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(found.name or ".", flags, dir_fd=found.dir_fd)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """The first `limit` bytes of a file."""
        found = self.lookup(path)
        if not stat.S_ISREG(found.stat.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        with os.fdopen(self.open(path), "rb") as file:
            return file.read(limit)

    def names(self, folder: Found) -> list[str]:
        """The names in a merged folder, sorted by bytes."""
        present: set[str] = set()
        hidden: set[str] = set()
        for _, fd in folder.folders:
            here: set[str] = set()
            for entry in os.scandir(fd):
                if entry.name in hidden or entry.name in present:
                    continue
                if is_whiteout(entry.stat(follow_symlinks=False)):
                    hidden.add(entry.name)
                else:
                    here.add(entry.name)
            present |= here
        return sorted(present, key=os.fsencode)
