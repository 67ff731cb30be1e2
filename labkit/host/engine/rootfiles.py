"""Looking into a container's root without mounting it.

Before a start the engine needs three small things from the stack of a container's own folder and
its image's layers: who `--user name` is (/etc/passwd and /etc/group as the container sees them,
including what an earlier run changed), whether WORKDIR exists, and what a fresh volume is filled
with. image.union does the looking: by descriptor, links followed beneath this root only.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.image.union import Found, Union
from labkit.host.isolation.spec import RootSpec

__all__ = ["RootFiles"]

_MAX_READ_BYTES = 4 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RootFiles:
    """The merged view of one root."""

    def __init__(self, root: RootSpec) -> None:
        plain = root.path is not None
        self._upper = (None if root.readonly else root.path) if plain else root.upper
        stack = (root.path,) if plain else (root.upper, *root.lowers)
        self._layers: list[Path] = [folder for folder in stack if folder is not None]

    def read_texts(self, *paths: str) -> list[str]:
        """Small regular files as text; the empty string where there is no such file."""
        found = []
        with Union(self._layers) as union:
            for path in paths:
                try:
                    found.append(union.read(path, _MAX_READ_BYTES).decode("utf-8", "replace"))
                except OSError:
                    found.append("")
        return found

    def image_key(self, folder: str, *files: str) -> tuple[Path, ...] | None:
        """The image's layers, if `files` below `folder` depend on them alone.

        That is so when the container itself has nothing called `folder` and no layer has a link
        there that might lead to what the container can change. Layers never change.
        """
        if self._upper is None or os.path.lexists(self._upper / folder):
            return None
        lowers = tuple(layer for layer in self._layers if layer != self._upper)
        names = (folder, *(f"{folder}/{name}" for name in files))
        if not lowers or any((layer / name).is_symlink() for layer in lowers for name in names):
            return None
        return lowers

    def is_directory(self, path: str) -> bool:
        """Whether `path` leads to a folder."""
        with Union(self._layers) as union:
            found = _look(union, path)
            return found is not None and found.is_folder

    def ensure_directory(self, path: str, *, uid: int = 0, gid: int = 0) -> None:
        """Make `path` and the folders above it in the upper layer, as `mkdir -p` would.

        Folders that exist below only are taken up with their owner and mode first, which is what
        overlayfs does when something is made in them.
        """
        if self._upper is None or self.is_directory(path):
            return
        with Union(self._layers) as union:
            plan = list(_plan(union, path))
        here = os.open(self._upper, _DIRECTORY)
        try:
            for name, like in plan:
                here = self._descend(here, name, like, uid, gid)
        except OSError as error:
            raise SystemFailure(f"mkdir {path}: {error.strerror}") from error
        finally:
            os.close(here)

    @staticmethod
    def _descend(here: int, name: str, like: os.stat_result | None, uid: int, gid: int) -> int:
        """Open `name` below `here`, making it first; closes `here`."""
        try:
            os.mkdir(name, 0o755, dir_fd=here)
        except FileExistsError:
            pass
        else:
            if like is not None:
                uid, gid = like.st_uid, like.st_gid
            # A rootless lab with one mapped id cannot give a folder to another id.
            with contextlib.suppress(OSError):
                os.chown(name, uid, gid, dir_fd=here, follow_symlinks=False)
            if like is not None:
                os.chmod(name, stat.S_IMODE(like.st_mode), dir_fd=here)
        below = os.open(name, _DIRECTORY, dir_fd=here)
        os.close(here)
        return below

    def copy_folder(self, path: str, target: Path) -> None:
        """Copy what is in the folder `path` into the folder `target`, owners and modes too.

        Does nothing when `path` is no folder. `target` must not be shared with anyone yet.
        """
        with Union(self._layers) as union:
            found = _look(union, path)
            if found is None or not found.is_folder:
                return
            goal = os.open(target, _DIRECTORY)
            try:
                _set_metadata(goal, found.stat)
                _copy_children(union, found, goal)
            finally:
                os.close(goal)


def _look(union: Union, path: str) -> Found | None:
    try:
        return union.lookup(path)
    except OSError:
        return None


def _plan(union: Union, path: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """The link-free components of `path`, each with what exists there below."""
    trail: list[str] = []
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del trail[-1:]
            continue
        try:
            found = union.lookup("/".join((*trail, part)), follow=False)
        except FileNotFoundError:
            trail.append(part)
            continue
        except OSError:
            raise InvalidParameter(f"Cannot mkdir: {path} is not a directory") from None
        if stat.S_ISLNK(found.stat.st_mode):
            links += 1
            if links > 40:
                raise InvalidParameter(f"mkdir {path}: too many levels of symbolic links")
            target = os.readlink(found.name, dir_fd=found.dir_fd)
            trail = [] if target.startswith("/") else trail
            pending += [word for word in reversed(target.split("/")) if word not in ("", ".")]
            continue
        if not found.is_folder:
            raise InvalidParameter(f"Cannot mkdir: {path} is not a directory")
        trail.append(part)
    for depth, name in enumerate(trail):
        found_here = _look(union, "/".join(trail[: depth + 1]))
        yield name, found_here.stat if found_here else None


def _set_metadata(descriptor: int, found: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        os.fchown(descriptor, found.st_uid, found.st_gid)
    # After the owner, because changing that clears the set-user-id bits.
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
    os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_children(union: Union, folder: Found, goal: int) -> None:
    for name in union.names(folder):
        child = union.child(folder, name)
        if child is None:
            continue
        mode = child.stat.st_mode
        if child.is_folder:
            os.mkdir(name, 0o700, dir_fd=goal)
            below = os.open(name, _DIRECTORY, dir_fd=goal)
            try:
                _copy_children(union, child, below)
                _set_metadata(below, child.stat)
            finally:
                os.close(below)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=child.dir_fd), name, dir_fd=goal)
            with contextlib.suppress(OSError):
                os.chown(
                    name, child.stat.st_uid, child.stat.st_gid, dir_fd=goal, follow_symlinks=False
                )
        elif stat.S_ISREG(mode):
            _copy_file(child, name, goal)


def _copy_file(child: Found, name: str, goal: int) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=child.dir_fd)
    try:
        copy = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=goal
        )
        try:
            while os.copy_file_range(source, copy, 1 << 26):
                pass
            _set_metadata(copy, child.stat)
        finally:
            os.close(copy)
    finally:
        os.close(source)
