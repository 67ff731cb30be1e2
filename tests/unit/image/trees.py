"""Trees for tests: made on disk from a description, and described back."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from labkit.host.image.apply import Applied, LayerApplier
from labkit.host.image.beneath import open_directory
from labkit.host.image.entry import Entry
from labkit.host.image.tarread import TarReader
from labkit.host.image.tarwrite import TarWriter, header_bytes

Tree = dict[str, tuple[Any, ...]]
"""Path → (dir, mode), (file, bytes, mode), (symlink, target), (link, path) or (fifo,)."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = open_directory(path)
    try:
        yield fd
    finally:
        os.close(fd)


def make(root: Path, tree: Tree, *, mtime_ns: int = 1_600_000_000_123_456_789) -> None:
    """Write a description to disk; every name gets the same time."""
    root.mkdir(exist_ok=True)
    order = sorted(tree)
    for path in order:
        kind, *rest = tree[path]
        target = root / path
        if kind == "dir":
            target.mkdir()
        elif kind == "file":
            target.write_bytes(rest[0])
            target.chmod(rest[1])
        elif kind == "symlink":
            target.symlink_to(rest[0])
        elif kind == "fifo":
            os.mkfifo(target)
    for path in order:
        if tree[path][0] == "link":
            os.link(root / tree[path][1], root / path, follow_symlinks=False)
    for path in reversed(order):
        if tree[path][0] == "dir":
            (root / path).chmod(tree[path][1])
        os.utime(root / path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
    os.utime(root, ns=(mtime_ns, mtime_ns))


def describe(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything a layer must keep: kinds, modes, times, content, attributes, link groups."""
    found: dict[str, tuple[Any, ...]] = {}
    groups: dict[int, list[str]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            info = path.lstat()
            where = str(path.relative_to(root))
            content: object = None
            if stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            found[where] = (
                info.st_mode,
                info.st_uid,
                info.st_gid,
                info.st_mtime_ns,
                content,
                attributes,
            )
            if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
                groups.setdefault(info.st_ino, []).append(where)
    for names in groups.values():
        for name in names:
            found[name] += (tuple(sorted(names)),)
    return found


def archive(produce: Callable[[TarWriter], None]) -> bytes:
    """The bytes `produce` writes, closed properly."""
    buffer = io.BytesIO()
    writer = TarWriter(buffer.write)
    produce(writer)
    writer.close()
    return buffer.getvalue()


def members(*entries: Entry | tuple[Entry, bytes]) -> bytes:
    """An archive of the given members, sizes filled in from their content."""
    buffer = io.BytesIO()
    writer = TarWriter(buffer.write)
    for item in entries:
        entry, data = item if isinstance(item, tuple) else (item, b"")
        entry.size = len(data)
        writer.add(entry, [(0, data)] if data else [])
    writer.close()
    return buffer.getvalue()


def apply(data: bytes, root: Path, deletions: Literal["overlay", "merge"] = "merge") -> Applied:
    root.mkdir(exist_ok=True)
    with opened(root) as fd, LayerApplier(fd, deletions=deletions) as applier:
        return applier.apply(TarReader(io.BytesIO(data)))


__all__ = ["Tree", "apply", "archive", "describe", "header_bytes", "make", "members", "opened"]
