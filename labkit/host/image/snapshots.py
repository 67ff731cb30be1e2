"""A container's own layer on top of its image.

    overlay2/CONTAINER/diff, work      the writable layer and overlayfs's scratch folder
    overlay2/CONTAINER/snapshot.json   which image and layers it stands on
    overlay2/CHAIN-init/diff           mount points that every container needs, one per image

Docker keeps the mount points (/.dockerenv, /etc/hosts …) in an init layer below the writable one,
so that `docker diff` never lists them; so do we, once per image instead of once per container.
Where overlayfs cannot be had (`overlay=False`) the layers are copied into one folder.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labkit.base.errors import Conflict, NotFound, SystemFailure
from labkit.host.image.beneath import open_directory
from labkit.host.image.digests import chain_ids
from labkit.host.image.model import Image
from labkit.host.image.store import ImageStore
from labkit.host.isolation.spec import RootSpec

if TYPE_CHECKING:
    from labkit.host.image.changes import Change
    from labkit.host.image.union import Found, Union

__all__ = ["Snapshotter"]

_MOUNT_POINTS: tuple[tuple[str, Literal["dir", "file", "link"]], ...] = (
    (".dockerenv", "file"),
    ("dev/console", "file"),
    ("dev/pts", "dir"),
    ("dev/shm", "dir"),
    ("etc/hostname", "file"),
    ("etc/hosts", "file"),
    ("etc/mtab", "link"),
    ("etc/resolv.conf", "file"),
    ("proc", "dir"),
    ("sys", "dir"),
)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    folder: Path
    image_id: str
    diff_ids: tuple[str, ...]
    overlay: bool


class Snapshotter:
    """Makes, measures and removes containers' writable layers. Safe to call from any thread."""

    def __init__(self, store: ImageStore, *, overlay: bool = True) -> None:
        self._store = store
        self._overlay = overlay
        if not overlay:
            store.driver = "vfs"

    # -- life ------------------------------------------------------------------------------

    def prepare(self, container_id: str, image: Image) -> RootSpec:
        """Make the writable layer of a new container.

        Raises Conflict when there is one already, SystemFailure when the disk refuses.
        """
        folder = self._folder(container_id)
        try:
            with self._store.lock:
                lowers = self._lowers(image)
                folder.mkdir(mode=0o710)
                record = {
                    "image": image.id,
                    "diff_ids": list(image.diff_ids),
                    "overlay": self._overlay,
                }
                # The record keeps image removal from taking the layers; a folder without one is
                # a leftover.
                (folder / "snapshot.json").write_text(json.dumps(record))
            self._fill(folder, lowers)
        except FileExistsError:
            raise Conflict(f"a writable layer for {container_id} exists already") from None
        except OSError as error:
            self.remove(container_id)
            raise SystemFailure(
                f"cannot make the writable layer of {container_id}: {error.strerror}",
                hint="free some space, for example with docker system prune",
            ) from error
        if not self._overlay:
            return RootSpec(path=folder / "merged")
        return RootSpec(lowers=tuple(lowers), upper=folder / "diff", work=folder / "work")

    def _fill(self, folder: Path, lowers: list[Path]) -> None:
        if self._overlay:
            (folder / "work").mkdir(mode=0o700)
            (folder / "diff").mkdir(mode=0o755)
            if lowers:
                _copy_folder_metadata(os.stat(lowers[0]), folder / "diff")
            return
        from labkit.host.image.copytree import copy_stack

        (folder / "merged").mkdir(mode=0o755)
        copy_stack(lowers, folder / "merged")

    def root_spec(self, container_id: str) -> RootSpec:
        """The root of a container prepared earlier. Raises NotFound."""
        snapshot = self._read(container_id)
        if not snapshot.overlay:
            return RootSpec(path=snapshot.folder / "merged")
        return RootSpec(
            lowers=tuple(self._snapshot_lowers(snapshot)),
            upper=snapshot.folder / "diff",
            work=snapshot.folder / "work",
        )

    def remove(self, container_id: str) -> None:
        """Remove the writable layer and, with the last user of a removed image, its layers."""
        try:
            snapshot = self._read(container_id)
        except NotFound:
            self._store.layers.discard_later(container_id)
            return
        with self._store.lock:
            self._store.layers.discard_later(container_id)
            unused = {
                diff_id
                for diff_id in snapshot.diff_ids
                if not self._store.index.layer_users(diff_id)
            }
            if unused:
                from labkit.host.image.removal import collect

                collect(self._store, set(), unused)

    def containers(self) -> list[str]:
        """The ids that have a writable layer (for the engine to compare with its records)."""
        folder = self._store.layers.folder
        return sorted(
            name
            for name in os.listdir(folder)
            if not name.startswith(".") and (folder / name / "snapshot.json").exists()
        )

    # -- questions -------------------------------------------------------------------------

    def size(self, container_id: str) -> int:
        """Bytes that the container wrote (Docker's SizeRw); shared files are counted once."""
        snapshot = self._read(container_id)
        if snapshot.overlay:
            return _tree_size(snapshot.folder / "diff")
        total = 0
        with self.view(container_id) as tree:
            for change in self.changes(container_id):
                with suppress(FileNotFoundError):
                    found = tree.lookup(change.path, follow=False).stat
                    total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        return total

    def changes(self, container_id: str) -> list[Change]:
        """What differs from the image, as `docker diff` lists it."""
        from labkit.host.image.changes import overlay_changes, tree_changes
        from labkit.host.image.union import Union

        snapshot = self._read(container_id)
        with ExitStack() as stack:
            lower = stack.enter_context(Union(self._snapshot_lowers(snapshot)))
            if snapshot.overlay:
                fd = open_directory(snapshot.folder / "diff")
                stack.callback(os.close, fd)
                return overlay_changes(lower, fd)
            upper = stack.enter_context(Union([snapshot.folder / "merged"]))
            return tree_changes(lower, upper)

    def view(self, container_id: str) -> Union:
        """The container's tree for reading, without a mount. Close it (context manager)."""
        from labkit.host.image.union import Union

        snapshot = self._read(container_id)
        if not snapshot.overlay:
            return Union([snapshot.folder / "merged"])
        return Union([snapshot.folder / "diff", *self._snapshot_lowers(snapshot)])

    def upper(self, container_id: str) -> Path:
        """The folder the container writes to, for `commit` and for pictures."""
        snapshot = self._read(container_id)
        return snapshot.folder / ("diff" if snapshot.overlay else "merged")

    def graph_driver(self, container_id: str) -> dict[str, Any]:
        """The GraphDriver object of `docker inspect CONTAINER`."""
        snapshot = self._read(container_id)
        if not snapshot.overlay:
            return {"Name": "vfs", "Data": None}
        shown = self._store.shown
        base = shown(snapshot.folder)
        lowers = ":".join(shown(path) for path in self._snapshot_lowers(snapshot))
        return {
            "Name": "overlay2",
            "Data": {
                "ID": container_id,
                "LowerDir": lowers,
                "MergedDir": f"{base}/merged",
                "UpperDir": f"{base}/diff",
                "WorkDir": f"{base}/work",
            },
        }

    # -- below -----------------------------------------------------------------------------

    def _folder(self, container_id: str) -> Path:
        assert container_id.isalnum(), container_id
        return self._store.layers.folder / container_id

    def _read(self, container_id: str) -> _Snapshot:
        folder = self._folder(container_id)
        try:
            record = json.loads((folder / "snapshot.json").read_text())
        except (FileNotFoundError, ValueError):
            raise NotFound(f"no writable layer for container {container_id}") from None
        return _Snapshot(
            folder, record["image"], tuple(record["diff_ids"]), bool(record["overlay"])
        )

    def _snapshot_lowers(self, snapshot: _Snapshot) -> list[Path]:
        paths = []
        for diff_id in snapshot.diff_ids:
            path = self._store.layers.path(diff_id)
            if path is None:
                raise SystemFailure(f"layer {diff_id} of the container's image is gone")
            paths.append(path)
        return [self._init_layer(snapshot.diff_ids, paths), *_each_once(paths)]

    def _lowers(self, image: Image) -> list[Path]:
        paths = self._store.layer_paths(image)
        return [self._init_layer(image.diff_ids, paths), *_each_once(paths)]

    def _init_layer(self, diff_ids: Sequence[str], paths: list[Path]) -> Path:
        """The folder with the mount points that the image lacks; made at first use."""
        chain = chain_ids(diff_ids)[-1][7:] if diff_ids else "0" * 64
        target = self._store.layers.folder / f"{chain}-init"
        if (target / "diff").is_dir():
            return target / "diff"
        from labkit.host.image.union import Union

        temporary = self._store.layers.temporary_folder()
        (temporary / "diff").mkdir()
        with Union(list(reversed(paths)) or [temporary / "diff"]) as image:
            _copy_folder_metadata(image.root.stat, temporary / "diff")
            for path, kind in _MOUNT_POINTS:
                _mount_point(image, temporary / "diff", path, kind)
            for folder in ("etc", "dev"):
                _restore_times(image, temporary / "diff", folder)
            _copy_folder_metadata(image.root.stat, temporary / "diff")
        try:
            os.rename(temporary, target)
        except OSError:
            if not (target / "diff").is_dir():
                raise
            self._store.layers.discard_folder(temporary.name)  # another thread was first
        return target / "diff"


def _each_once(paths: list[Path]) -> list[Path]:
    """Topmost first. A layer that is stacked twice (two steps that changed nothing have the same
    content) counts at its topmost place, where it hides all it says further down; overlayfs
    refuses a folder that is given twice (ELOOP).
    """
    return list(dict.fromkeys(reversed(paths)))


def _mount_point(image: Union, target: Path, path: str, kind: str) -> None:
    """Add one mount point unless the image has the name; its folder keeps the image's metadata."""
    found: Found | None = image.root
    folder = target
    *parents, last = path.split("/")
    for part in parents:
        found = image.child(found, part) if found is not None else None
        if found is not None and not found.is_folder:
            return  # the image made it a file or a link: leave it so
        folder = folder / part
        if not folder.exists():
            folder.mkdir(mode=0o755)
            if found is not None:
                _copy_folder_metadata(found.stat, folder)
    if found is not None and image.child(found, last) is not None:
        return
    if kind == "dir":
        (folder / last).mkdir(mode=0o755)
        (folder / last).chmod(0o755)
    elif kind == "link":
        (folder / last).symlink_to("/proc/mounts")
    else:
        (folder / last).touch(mode=0o755)
        (folder / last).chmod(0o755)


def _restore_times(image: Union, target: Path, name: str) -> None:
    found = image.child(image.root, name)
    if found is not None and found.is_folder and (target / name).is_dir():
        os.utime(target / name, ns=(found.stat.st_mtime_ns, found.stat.st_mtime_ns))


def _copy_folder_metadata(found: os.stat_result, target: Path) -> None:
    """A folder in an upper layer speaks for all below it, so it must look like them."""
    # A rootless lab cannot give a folder to an id outside its map: then it stays the owner.
    with suppress(OSError):
        os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))


def _tree_size(root: Path) -> int:
    from labkit.host.image.treewalk import walk

    fd = open_directory(root)
    seen: set[int] = set()
    total = 0
    try:
        for _, found, _, _ in walk(fd):
            if not stat.S_ISREG(found.st_mode):
                continue
            if found.st_nlink > 1:
                if found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
            total += found.st_size
    finally:
        os.close(fd)
    return total
