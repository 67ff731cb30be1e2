"""Read a tree as members: what a folder holds, in an order and form that depend on it alone."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from labkit.host.image.beneath import O_DIRECTORY_FLAGS, proc_path
from labkit.host.image.entry import Entry, Kind

__all__ = ["TreeEntry", "entry_of", "kept_xattrs", "read_file", "walk"]

_KEPT_XATTRS = ("user.", "security.capability")
_OWN_XATTRS = ("user.overlay.", "user.labkit.")
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}

TreeEntry = tuple[str, os.stat_result, int, str]
"""Path from the root, its lstat, a descriptor of its folder, and its name there."""


def walk(root_fd: int, prefix: str = "") -> Iterator[TreeEntry]:
    """Every name below `root_fd`, folders before their content, sorted by bytes.

    The folder's descriptor is valid until the next step. Links are never followed.
    """
    # One descriptor, whatever the depth: the way up is `..`, checked against where we came from.
    current = os.open(".", O_DIRECTORY_FLAGS, dir_fd=root_fd)
    stack = [_Level(current, prefix)]
    try:
        while stack:
            level = stack[-1]
            name = next(level.names, None)
            if name is None:
                stack.pop()
                if stack:
                    current = _enter(current, "..")
                    found = os.fstat(current)
                    if (found.st_dev, found.st_ino) != stack[-1].inode:
                        raise OSError(errno.ESTALE, "the tree was moved while it was read", prefix)
                continue
            path = f"{level.path}/{name}" if level.path else name
            try:
                found = os.stat(name, dir_fd=current, follow_symlinks=False)
            except FileNotFoundError:
                continue  # a running container may remove it meanwhile
            yield path, found, current, name
            if stat.S_ISDIR(found.st_mode):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    current = _enter(current, name)
                    stack.append(_Level(current, path))
    finally:
        os.close(current)


class _Level:
    """One folder of the walk: what is left to visit in it, and how to know it again."""

    __slots__ = ("inode", "names", "path")

    def __init__(self, fd: int, path: str) -> None:
        found = os.fstat(fd)
        self.inode = (found.st_dev, found.st_ino)
        self.names = iter(sorted(os.listdir(fd), key=os.fsencode))
        self.path = path


def _enter(current: int, name: str) -> int:
    """Open a folder relative to `current`, which is closed once that has worked."""
    opened = os.open(name, O_DIRECTORY_FLAGS, dir_fd=current)
    os.close(current)
    return opened


def kept_xattrs(dir_fd: int, name: str) -> dict[str, bytes]:
    """The attributes that belong to a layer: file capabilities and the user's own."""
    target = proc_path(dir_fd, name)
    found: dict[str, bytes] = {}
    try:
        for key in os.listxattr(target, follow_symlinks=False):
            if key.startswith(_KEPT_XATTRS) and not key.startswith(_OWN_XATTRS):
                found[key] = os.getxattr(target, key, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENODATA, errno.ENOENT):
            raise
    return found


def entry_of(path: str, found: os.stat_result, dir_fd: int, name: str) -> Entry | None:
    """The member for one name, or None for a socket, which no archive can hold."""
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return None
    entry = Entry(
        name=path,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        size=found.st_size if kind == "file" else 0,
        xattrs=kept_xattrs(dir_fd, name),
    )
    if kind == "symlink":
        entry.link = os.readlink(name, dir_fd=dir_fd)
    elif kind in ("char", "block"):
        entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return entry


def read_file(dir_fd: int, name: str, size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the first `size` bytes of a file; holes are skipped, not read."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        position = 0
        while position < size:
            try:
                start = os.lseek(fd, position, os.SEEK_DATA)
                end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # only a hole is left
                start, end = position, size
            position = start
            while position < end:
                data = os.pread(fd, min(1 << 18, end - position), position)
                if not data:
                    return  # it was truncated meanwhile; the rest reads as zeros
                yield position, data
                position += len(data)
    finally:
        os.close(fd)
