"""`RUN --mount`: files lent for a step, secrets that leave no trace (caches: cachemounts.py)."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labkit.base.errors import NotFound
from labkit.host.image.apply import LayerApplier
from labkit.host.image.beneath import open_directory, open_in_root
from labkit.host.image.builder.instructions import RunMount
from labkit.host.image.builder.ports import BuildMount
from labkit.host.image.builder.trees import Node, SourceTree, UnionTree, resolve
from labkit.host.image.entry import Entry
from labkit.host.isolation.spec import RootSpec

__all__ = ["discard", "lend", "mount_points_removed", "secret_file"]


def lend(tree: SourceTree, mount: RunMount, folder: Path, *, where: str) -> Path:
    """A private copy of `mount.source` (the whole tree when empty) for a bind: its path."""
    node = tree.find(mount.source)
    if node is None:
        raise NotFound(f"RUN --mount failed: file not found in {where}: stat {mount.source}")
    target = folder / "source"
    if node.is_folder:
        target.mkdir()
    fd = open_directory(target if node.is_folder else folder)
    try:
        with LayerApplier(fd, deletions="merge") as applier:
            if node.is_folder:
                _copy_below(applier, tree, node, "")
            else:
                applier.add(_named(node.entry, "source"), tree.content(node))
            applier.finish()
    finally:
        os.close(fd)
    return target


def _named(entry: Entry, name: str) -> Entry:
    from dataclasses import replace

    return replace(entry, name=name, kind="file" if entry.kind == "link" else entry.kind)


def _copy_below(applier: LayerApplier, tree: SourceTree, folder: Node, prefix: str) -> None:
    for child in tree.children(folder):
        name = child.path.rpartition("/")[2]
        path = f"{prefix}/{name}" if prefix else name
        is_file = child.entry.kind in ("file", "link")
        applier.add(_named(child.entry, path), tree.content(child) if is_file else ())
        if child.is_folder:
            _copy_below(applier, tree, child, path)


def secret_file(mount: RunMount, content: bytes, folder: Path) -> BuildMount:
    """A secret for one RUN. It lies in the scratch folder for that long, readable by its owner."""
    path = folder / "secret"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        with suppress(OSError):
            os.chown(fd, mount.uid, mount.gid)
        os.fchmod(fd, 0o400 if mount.mode is None else mount.mode)
    return BuildMount("bind", mount.target, path, True)


@contextmanager
def mount_points_removed(root: RootSpec, mounts: list[BuildMount]) -> Iterator[None]:
    """Mount points that had to be made for a step are no part of its layer."""
    upper = root.upper or root.path
    assert upper is not None
    missing = _missing([*root.lowers] or [upper], [mount.target for mount in mounts])
    yield
    fd = open_directory(upper)
    try:
        for path in missing:
            _remove_empty(fd, path)
    finally:
        os.close(fd)


def _missing(layers: list[Path], targets: list[str]) -> list[str]:
    """Names on the way to `targets` that the image lacks, deepest first."""
    found: set[str] = set()
    tree = UnionTree(layers)
    try:
        for target in targets:
            parts = resolve([part for part in target.split("/") if part], tree.link_text)
            for length in range(1, len(parts) + 1):
                path = "/".join(parts[:length])
                if tree.find(path, follow=False) is None:
                    found.add(path)
    finally:
        tree.close()
    return sorted(found, key=lambda path: path.count("/"), reverse=True)


def _remove_empty(root_fd: int, path: str) -> None:
    folder, _, name = path.rpartition("/")
    with suppress(OSError):
        parent = open_in_root(root_fd, folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(name, dir_fd=parent)
            elif stat.S_ISREG(found.st_mode) and not found.st_size:
                os.unlink(name, dir_fd=parent)
        finally:
            os.close(parent)


def discard(folder: Path) -> None:
    """Remove a step's scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
