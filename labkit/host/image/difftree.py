"""Layers from trees: the whole of one, an overlay's upper folder, or the difference of two.

`apply(diff(a, b), a) == b` holds for any two trees, hard links and attributes included; the tests
draw random trees to say so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import zip_longest

from labkit.host.image.beneath import is_whiteout, open_in_root, proc_path
from labkit.host.image.entry import OPAQUE_MARK, WHITEOUT_PREFIX, Entry
from labkit.host.image.layernames import OPAQUE_XATTRS
from labkit.host.image.tarwrite import TarWriter
from labkit.host.image.treewalk import entry_of, kept_xattrs, read_file, walk

__all__ = ["Members", "diff_trees", "is_opaque", "write_tree", "write_upper"]

_Inode = tuple[int, int]


def is_opaque(dir_fd: int, name: str) -> bool:
    """Whether overlayfs hides what lower layers have in this folder."""
    for key in OPAQUE_XATTRS:
        try:
            if os.getxattr(proc_path(dir_fd, name), key, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


class Members:
    """Turns names of one tree into members, second names of a file into links to the first."""

    def __init__(self, writer: TarWriter) -> None:
        self._writer = writer
        self._first: dict[_Inode, str] = {}

    def add(self, path: str, found: os.stat_result, dir_fd: int, name: str) -> None:
        entry = entry_of(path, found, dir_fd, name)
        if entry is None:
            return
        if found.st_nlink > 1 and entry.kind != "dir":
            inode = (found.st_dev, found.st_ino)
            first = self._first.setdefault(inode, path)
            if first != path:
                entry.kind, entry.link, entry.size = "link", first, 0
                entry.xattrs = {}
                self._writer.add(entry)
                return
        content = read_file(dir_fd, name, entry.size) if entry.kind == "file" else ()
        self._writer.add(entry, content)

    def delete(self, path: str, mtime_ns: int = 0) -> None:
        folder, _, name = path.rpartition("/")
        mark = WHITEOUT_PREFIX + name
        self._writer.add(Entry(f"{folder}/{mark}" if folder else mark, mode=0, mtime_ns=mtime_ns))

    def opaque(self, path: str) -> None:
        self._writer.add(Entry(f"{path}/{OPAQUE_MARK}" if path else OPAQUE_MARK, mode=0))


def write_tree(root_fd: int, writer: TarWriter) -> None:
    """Write all of a tree (`docker export`): no deletions, every name as it is."""
    members = Members(writer)
    for path, found, dir_fd, name in walk(root_fd):
        members.add(path, found, dir_fd, name)


def write_upper(upper_fd: int, writer: TarWriter) -> None:
    """Write an overlay's upper folder as a layer, its marks turned into whiteouts."""
    members = Members(writer)
    for path, found, dir_fd, name in walk(upper_fd):
        if is_whiteout(found, dir_fd, name):
            members.delete(path)
            continue
        members.add(path, found, dir_fd, name)
        if stat.S_ISDIR(found.st_mode) and is_opaque(dir_fd, name):
            members.opaque(path)


def diff_trees(lower_fd: int, upper_fd: int, writer: TarWriter) -> None:
    """Write the layer that turns the tree `lower_fd` into `upper_fd`.

    Content is compared, not only sizes and times: an edit within the clock's resolution counts.
    """
    lower = _index(lower_fd)
    upper = _index(upper_fd)
    lower_groups, upper_groups = _link_groups(lower), _link_groups(upper)
    members = Members(writer)
    for path, found, fd, name in walk(upper_fd):
        before = lower.get(path)
        same = (
            before is not None
            and lower_groups.get(path) == upper_groups.get(path)
            and _same_metadata(before, found)
            and _same_content(lower_fd, path, found, fd, name)
        )
        if not same:
            members.add(path, found, fd, name)
    for path in sorted(lower, key=os.fsencode):
        # One mark deletes a whole tree, and a folder that became a file needs none.
        parent = path.rpartition("/")[0]
        if path not in upper and (not parent or _is_folder(upper.get(parent))):
            members.delete(path)


def _index(root_fd: int) -> dict[str, os.stat_result]:
    return {path: found for path, found, _, _ in walk(root_fd) if not stat.S_ISSOCK(found.st_mode)}


def _is_folder(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISDIR(found.st_mode)


def _link_groups(index: dict[str, os.stat_result]) -> dict[str, frozenset[str]]:
    """For each name that shares its file with others: the set of all its names."""
    groups: dict[_Inode, list[str]] = {}
    for path, found in index.items():
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            groups.setdefault((found.st_dev, found.st_ino), []).append(path)
    return {path: frozenset(names) for names in groups.values() for path in names if len(names) > 1}


def _same_metadata(one: os.stat_result, other: os.stat_result) -> bool:
    if (one.st_mode, one.st_uid, one.st_gid, one.st_mtime_ns, one.st_rdev) != (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_mtime_ns,
        other.st_rdev,
    ):
        return False
    return not stat.S_ISREG(one.st_mode) or one.st_size == other.st_size


def _same_content(
    lower_fd: int, path: str, found: os.stat_result, upper_dir: int, name: str
) -> bool:
    folder, _, last = path.rpartition("/")
    lower_dir = open_in_root(lower_fd, folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        if kept_xattrs(lower_dir, last) != kept_xattrs(upper_dir, name):
            return False
        if stat.S_ISLNK(found.st_mode):
            return os.readlink(last, dir_fd=lower_dir) == os.readlink(name, dir_fd=upper_dir)
        if not stat.S_ISREG(found.st_mode):
            return True
        pieces = zip_longest(_pages(lower_dir, last), _pages(upper_dir, name))
        return all(one == other for one, other in pieces)
    finally:
        os.close(lower_dir)


def _pages(dir_fd: int, name: str) -> Iterator[bytes]:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        while data := file.read(1 << 16):
            yield data
