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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from labkit.host.image.beneath import is_whiteout, open_directory
from labkit.host.image.difftree import is_opaque

__all__ = ["Found", "Union"]

_MAX_LINKS = 40


class _Folder:
    """An open folder of one layer, closed when the last name that was found in it is dropped."""

    __slots__ = ("fd", "layer")

    def __init__(self, fd: int, layer: int) -> None:
        self.fd = fd
        self.layer = layer

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(slots=True)
class Found:
    """A name in the stack: its lstat, and the layer's folder that provides it.

    It holds descriptors for as long as it lives; a walk over a large tree keeps few of them.
    """

    name: str
    stat: os.stat_result
    _home: _Folder
    _folders: list[_Folder] = field(default_factory=list)
    """For a folder: each one merged into it, topmost first."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def dir_fd(self) -> int:
        """The folder that holds the name, for calls that take a descriptor and a name."""
        return self._home.fd

    @property
    def layer(self) -> int:
        """Which layer provides it; 0 is the topmost."""
        return self._home.layer


class Union:
    """The union of `layers` (topmost first); a context manager."""

    def __init__(self, layers: Sequence[Path]) -> None:
        roots = [_Folder(open_directory(layer), number) for number, layer in enumerate(layers)]
        self._root: Found | None = Found("", os.fstat(roots[0].fd), roots[0], roots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._root = None

    @property
    def root(self) -> Found:
        assert self._root is not None, "the union is closed"
        return self._root

    def child(self, folder: Found, name: str) -> Found | None:
        """What `name` is in `folder`, or None."""
        best: Found | None = None
        for home in folder._folders:
            try:
                found = os.stat(name, dir_fd=home.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_whiteout(found, home.fd, name):
                return best
            if not stat.S_ISDIR(found.st_mode):
                return best or Found(name, found, home)
            if best is None:
                best = Found(name, found, home)
            best._folders.append(_Folder(open_directory(name, dir_fd=home.fd), home.layer))
            if is_opaque(home.fd, name):
                return best
        return best

    def lookup(self, path: str, *, follow: bool = True) -> Found:
        """The name at `path`; links on the way are followed, the last one if `follow`.

        Raises FileNotFoundError, NotADirectoryError or OSError(ELOOP).
        """
        trail = [self.root]
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
        for home in folder._folders:
            here: set[str] = set()
            for entry in os.scandir(home.fd):
                if entry.name in hidden or entry.name in present:
                    continue
                if is_whiteout(entry.stat(follow_symlinks=False), home.fd, entry.name):
                    hidden.add(entry.name)
                else:
                    here.add(entry.name)
            present |= here
        return sorted(present, key=os.fsencode)
