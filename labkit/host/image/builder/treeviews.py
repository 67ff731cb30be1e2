"""Trees made of trees: what an archive in one holds, one without what is excluded, a folder's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from labkit.base.dockerignore import IgnoreRules
from labkit.base.errors import InvalidParameter
from labkit.host.image.beneath import open_directory
from labkit.host.image.builder.plaintar import plain
from labkit.host.image.builder.trees import Node, SourceTree, SpooledTree
from labkit.host.image.treewalk import entry_of, read_file, walk

__all__ = ["WithoutTree", "folder_tree", "unpacked"]


class _NodeSource:
    """A file of a tree as a byte source."""

    def __init__(self, tree: SourceTree, node: Node) -> None:
        self._pieces = iter(tree.content(node))
        self._buffer = b""
        self._at = 0
        self._position = 0

    def read(self, size: int, /) -> bytes:
        if self._at >= len(self._buffer):
            offset, self._buffer = next(self._pieces, (self._position, b""))
            if offset > self._position:
                self._buffer = bytes(offset - self._position) + self._buffer
            self._position += len(self._buffer)
            self._at = 0
        piece = self._buffer[self._at : self._at + size]
        self._at += len(piece)
        return piece


def unpacked(tree: SourceTree, node: Node, folder: Path) -> SpooledTree | None:
    """The tree inside an archive that ADD is to unpack, or None when the file is no archive."""
    try:
        source = plain(_NodeSource(tree, node))
        block = b""
        while len(block) < 512 and (piece := source.read(512 - len(block))):
            block += piece
    except InvalidParameter:
        return None
    if len(block) < 512 or not _is_tar_header(block):
        return None
    return SpooledTree.from_tar(_NodeSource(tree, node), folder)


def _is_tar_header(block: bytes) -> bool:
    try:
        stated = int(block[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return stated == sum(block[:148]) + 8 * 32 + sum(block[156:])


class WithoutTree:
    """`inner` without what `rules` exclude; their paths count from the folder `top`."""

    def __init__(self, inner: SourceTree, top: str, rules: IgnoreRules) -> None:
        self._inner = inner
        self._top = f"{top}/" if top else ""
        self._rules = rules

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        return self._inner.find(path, follow=follow)

    def children(self, node: Node) -> Iterator[Node]:
        for child in self._inner.children(node):
            path = child.path.removeprefix(self._top)
            if not self._rules.excludes(path) or (
                child.is_folder and self._rules.may_hold_exceptions(path)
            ):
                yield child

    def content(self, node: Node) -> Iterable[tuple[int, bytes]]:
        return self._inner.content(node)

    def digest(self, node: Node) -> str:
        return self._inner.digest(node)

    def size(self, node: Node) -> int:
        return self._inner.size(node)


def folder_tree(folder: Path, scratch: Path, *, leave_out: str = "") -> SpooledTree:
    """A folder of this machine as a tree of root's; the name `leave_out` at its top is not."""
    tree = SpooledTree(scratch)
    fd = -1
    try:
        fd = open_directory(folder)
        for path, found, dir_fd, name in walk(fd):
            if leave_out and (path == leave_out or path.startswith(f"{leave_out}/")):
                continue
            entry = entry_of(path, found, dir_fd, name)
            if entry is not None:
                content = read_file(dir_fd, name, entry.size) if entry.kind == "file" else ()
                tree.add(path, replace(entry, uid=0, gid=0), content)
    except BaseException:
        tree.close()
        raise
    finally:
        if fd >= 0:
            os.close(fd)
    return tree
