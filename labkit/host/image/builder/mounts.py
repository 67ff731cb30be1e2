"""`RUN --mount`: caches that outlive builds, files lent for a step, secrets that leave no trace."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from labkit.base.errors import NotFound
from labkit.host.image.apply import LayerApplier
from labkit.host.image.beneath import open_directory, open_in_root, remove_tree
from labkit.host.image.builder.instructions import RunMount
from labkit.host.image.builder.ports import BuildMount
from labkit.host.image.builder.trees import Node, SourceTree, UnionTree, resolve
from labkit.host.image.entry import Entry
from labkit.host.image.store import ImageStore
from labkit.host.isolation.spec import RootSpec

__all__ = ["CacheMounts", "lend", "mount_points_removed", "secret_file"]


class CacheMounts:
    """`ROOT/buildcache/KEY/{data,cache.json}`: one folder per cache id, shared by all builds."""

    def __init__(self, store: ImageStore) -> None:
        self._folder = store.root / "buildcache"
        self._store = store
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._files = threading.Lock()

    async def enter(self, mount: RunMount, stack: AsyncExitStack, scratch: Path) -> BuildMount:
        """The mount for one RUN; what `sharing` promises holds until `stack` is closed."""
        key = hashlib.sha256(mount.id.encode()).hexdigest()[:32]
        if mount.sharing == "locked":
            await stack.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
        private = mount.sharing == "private" and self._users.get(key, 0) > 0
        if private:
            folder = scratch
        else:
            self._users[key] = self._users.get(key, 0) + 1
            stack.callback(self._leave, key)
            folder = await asyncio.to_thread(self._open, key, mount)
        return BuildMount("bind", mount.target, folder, mount.readonly)

    def _leave(self, key: str) -> None:
        self._users[key] -= 1

    def _open(self, key: str, mount: RunMount) -> Path:
        with self._files:  # stages run at the same time
            return self._made(key, mount)

    def _made(self, key: str, mount: RunMount) -> Path:
        folder = self._folder / key
        data = folder / "data"
        if not data.is_dir():
            data.mkdir(parents=True)
            with suppress(OSError):  # an id outside a rootless lab's map
                os.chown(data, mount.uid, mount.gid)
            data.chmod(0o755 if mount.mode is None else mount.mode)
        record = {"id": mount.id, "used_ns": self._store.now_ns()}
        (folder / "cache.json.new").write_text(json.dumps(record))
        (folder / "cache.json.new").rename(folder / "cache.json")
        return data

    def records(self) -> list[dict[str, Any]]:
        """Every cache as Docker's BuildCache records of type exec.cachemount."""
        found = []
        for folder in sorted(self._folder.glob("*")):
            try:
                record = json.loads((folder / "cache.json").read_text())
            except (OSError, ValueError):
                continue
            found.append(
                {
                    "ID": folder.name,
                    "Type": "exec.cachemount",
                    "Description": f"cached mount {record['id']}",
                    "InUse": self._users.get(folder.name, 0) > 0,
                    "Shared": False,
                    "Size": _size(folder / "data"),
                    "LastUsedAt": record["used_ns"],
                }
            )
        return found

    def prune(self) -> dict[str, Any]:
        """`POST /build/prune`: remove the caches that no build uses."""
        with self._files:
            return self._prune()

    def _prune(self) -> dict[str, Any]:
        removed: list[str] = []
        freed = 0
        if not self._folder.is_dir():
            return {"CachesDeleted": None, "SpaceReclaimed": 0}
        fd = open_directory(self._folder)
        try:
            for record in self.records():
                if not record["InUse"]:
                    remove_tree(record["ID"], dir_fd=fd)
                    removed.append(record["ID"])
                    freed += record["Size"]
        finally:
            os.close(fd)
        return {"CachesDeleted": removed or None, "SpaceReclaimed": freed}


def _size(folder: Path) -> int:
    from labkit.host.image.treewalk import walk

    fd = open_directory(folder)
    try:
        return sum(found.st_size for _, found, _, _ in walk(fd) if stat.S_ISREG(found.st_mode))
    finally:
        os.close(fd)


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
