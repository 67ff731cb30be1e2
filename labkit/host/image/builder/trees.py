"""Where COPY and ADD read from: an uploaded context, an image's layers, or a single text.

The context is never unpacked: its archive is read once, contents go one after the other into one
unnamed file while they are hashed, and a COPY reads only what it takes. Links are followed inside
the tree only.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from labkit.base.dockerignore import IgnoreRules
from labkit.base.errors import InvalidParameter
from labkit.host.image.builder.plaintar import plain
from labkit.host.image.entry import Entry
from labkit.host.image.tarread import ByteSource, TarReader
from labkit.host.image.treewalk import entry_of, read_file
from labkit.host.image.union import Found, Union

__all__ = ["Node", "SourceTree", "SpooledTree", "UnionTree", "resolve"]

_MAX_LINKS = 40
_PIECE = 1 << 18


@dataclass(slots=True)
class Node:
    """One name of a tree. `entry.name` is its path from the root, without slashes around."""

    path: str
    entry: Entry
    offset: int = 0
    digest: str = ""
    found: Found | None = None

    @property
    def is_folder(self) -> bool:
        return self.entry.kind == "dir"


class SourceTree(Protocol):
    """What COPY needs of a tree."""

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """The name at `path`; links on the way (and the last, if `follow`) are followed."""

    def children(self, node: Node) -> Iterator[Node]:
        """What is in a folder, sorted."""

    def content(self, node: Node) -> Iterable[tuple[int, bytes]]:
        """(offset, bytes) of a file."""

    def digest(self, node: Node) -> str:
        """sha256 of a file's content, in hexadecimal."""

    def size(self, node: Node) -> int:
        """Bytes of a file's content, whichever of its names `node` is."""


def resolve(parts: list[str], look: object) -> list[str]:
    """Replace links in `parts`; `look(path)` gives a link's text, or None. Raises on a loop."""
    assert callable(look)
    done: list[str] = []
    pending = list(reversed(parts))
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        text = look("/".join([*done, part]))
        if text is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidParameter(f"too many levels of symbolic links: {'/'.join(parts)}")
        if text.startswith("/"):
            done.clear()
        pending += reversed(text.split("/"))
    return done


class SpooledTree:
    """A tree read from a tar archive. Close it: it holds one unnamed file."""

    def __init__(self, folder: Path) -> None:
        self._heap = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by close
        self._end = 0
        self._nodes: dict[str, Node] = {"": Node("", Entry("", "dir", 0o755))}
        self._children: dict[str, set[str]] = {}
        self.bytes_read = 0

    def close(self) -> None:
        self._heap.close()

    @classmethod
    def from_tar(cls, source: ByteSource, folder: Path) -> SpooledTree:
        """Read a whole archive, compressed or not. Raises InvalidParameter for a broken one."""
        tree = cls(folder)
        try:
            reader = TarReader(plain(source))
            for entry in reader:
                tree._take(entry, reader.content())
        except BaseException:
            tree.close()
            raise
        return tree

    def _take(self, entry: Entry, content: Iterable[tuple[int, bytes]]) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise InvalidParameter(f"cannot read the archive: {entry.name!r} leads out of it")
        if parts:
            self.add("/".join(parts), entry, content)
        elif entry.kind == "dir":
            self._nodes[""].entry = replace(entry, name="")

    def add(self, path: str, entry: Entry, content: Iterable[tuple[int, bytes]] = ()) -> Node:
        """Put one name in; folders above it come into being, what was there before goes."""
        node = Node(path, replace(entry, name=path, extents=None), self._end)
        if entry.kind == "file":
            node.digest = self._spool(content, entry.size)
        before = self._nodes.get(path)
        if before is not None and before.is_folder and not node.is_folder:
            self._drop(path)
        parent, _, name = path.rpartition("/")
        above = self._nodes.get(parent)
        if above is None or not above.is_folder:
            self.add(parent, Entry(parent, "dir", 0o755))
        self._children.setdefault(parent, set()).add(name)
        self._nodes[path] = node
        return node

    def _drop(self, path: str) -> None:
        for name in self._children.pop(path, ()):
            self._drop(f"{path}/{name}")
            del self._nodes[f"{path}/{name}"]

    def _spool(self, content: Iterable[tuple[int, bytes]], size: int) -> str:
        digest, position = hashlib.sha256(), 0
        fd = self._heap.fileno()
        for offset, data in content:
            _hash_zeros(digest, offset - position)
            view, at = memoryview(data), self._end + offset
            while view:
                written = os.pwrite(fd, view, at)
                view, at = view[written:], at + written
            digest.update(data)
            position = offset + len(data)
            self.bytes_read += len(data)
        _hash_zeros(digest, size - position)
        self._end += size
        os.ftruncate(fd, self._end)
        return digest.hexdigest()

    def remove(self, path: str) -> None:
        """Take one name out, and all below it."""
        if path in self._nodes:
            self._drop(path)
            del self._nodes[path]
            parent, _, name = path.rpartition("/")
            self._children[parent].discard(name)

    def leave_out(self, rules: IgnoreRules) -> None:
        """Apply a .dockerignore. A folder stays when something below it was taken back in."""
        kept: set[str] = {""}
        for path in self._nodes:
            if path and not rules.excludes(path):
                while path and path not in kept:
                    kept.add(path)
                    path = path.rpartition("/")[0]
        for path in [path for path in self._nodes if path not in kept]:
            self.remove(path)

    def paths(self) -> list[str]:
        """Every name, sorted."""
        return sorted(path for path in self._nodes if path)

    def _link_text(self, path: str) -> str | None:
        node = self._nodes.get(path)
        return node.entry.link if node is not None and node.entry.kind == "symlink" else None

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if follow or not parts:
            return self._nodes.get("/".join(resolve(parts, self._link_text)))
        return self._nodes.get("/".join([*resolve(parts[:-1], self._link_text), parts[-1]]))

    def children(self, node: Node) -> Iterator[Node]:
        names = sorted(self._children.get(node.path, ()), key=os.fsencode)
        for name in names:
            yield self._nodes[f"{node.path}/{name}" if node.path else name]

    def real(self, node: Node) -> Node:
        """What a hard link is another name of."""
        for _ in range(_MAX_LINKS):
            if node.entry.kind != "link":
                return node
            target = self.find(node.entry.link, follow=False)
            if target is None or target is node:
                break
            node = target
        raise InvalidParameter(f"cannot read the archive: {node.path} is a link to nothing")

    def content(self, node: Node) -> Iterator[tuple[int, bytes]]:
        node = self.real(node)
        at = 0
        while at < node.entry.size:
            size = min(_PIECE, node.entry.size - at)
            data = os.pread(self._heap.fileno(), size, node.offset + at)
            if not data:
                raise InvalidParameter(f"{node.path} was cut off")
            yield at, data
            at += len(data)

    def digest(self, node: Node) -> str:
        return self.real(node).digest

    def size(self, node: Node) -> int:
        return self.real(node).entry.size


def _hash_zeros(digest: object, count: int) -> None:
    update = getattr(digest, "update")  # noqa: B009 - hashlib's type has no public name
    while count > 0:
        update(bytes(min(count, _PIECE)))
        count -= _PIECE


class UnionTree:
    """An image's tree, read from its layers without a mount. Close it."""

    def __init__(self, layers: list[Path]) -> None:
        self.union = Union(layers)

    def close(self) -> None:
        self.union.__exit__()

    def _node(self, path: str, found: Found) -> Node | None:
        if not found.name:
            status = found.stat
            entry: Entry | None = Entry(
                "", "dir", status.st_mode & 0o7777, status.st_uid, status.st_gid
            )
        else:
            entry = entry_of(path, found.stat, found.dir_fd, found.name)
        return None if entry is None else Node(path, entry, found=found)

    def link_text(self, path: str) -> str | None:
        """The text of the link at `path`, whose folders are no links; None for anything else."""
        try:
            found = self.union.lookup(path, follow=False)
            if found.is_folder or found.stat.st_mode & 0o170000 != 0o120000:
                return None
            return os.readlink(found.name, dir_fd=found.dir_fd)
        except OSError:
            return None

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if follow:
            parts = resolve(parts, self.link_text)
        elif parts:
            parts = [*resolve(parts[:-1], self.link_text), parts[-1]]
        try:
            return self._node("/".join(parts), self.union.lookup("/".join(parts), follow=False))
        except OSError:
            return None

    def children(self, node: Node) -> Iterator[Node]:
        assert node.found is not None
        for name in self.union.names(node.found):
            found = self.union.child(node.found, name)
            if found is not None:
                child = self._node(f"{node.path}/{name}" if node.path else name, found)
                if child is not None:
                    yield child

    def content(self, node: Node) -> Iterator[tuple[int, bytes]]:
        assert node.found is not None
        return read_file(node.found.dir_fd, node.found.name, node.entry.size)

    def size(self, node: Node) -> int:
        return node.entry.size

    def digest(self, node: Node) -> str:
        digest, position = hashlib.sha256(), 0
        for offset, data in self.content(node):
            _hash_zeros(digest, offset - position)
            digest.update(data)
            position = offset + len(data)
        _hash_zeros(digest, node.entry.size - position)
        return digest.hexdigest()
