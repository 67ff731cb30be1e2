"""Put a layer's members into a folder, whatever the archive says about where they belong.

Two ways to treat deletions: `overlay` writes overlayfs's own marks (a character device 0:0, an
opaque attribute), because the folder becomes one lower of a stack; `merge` deletes for real,
because the folder already holds the layers below (hosts without overlayfs, flattened copies).

What the kernel refuses to an unprivileged owner (foreign ids, device nodes, some attributes) is
recorded in `Applied.refused` rather than failing: the layer's content is what matters to a lab.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Literal, Self

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.image.applymeta import Applied, Metadata
from labkit.host.image.beneath import (
    O_DIRECTORY_FLAGS,
    is_whiteout,
    make_whiteout,
    open_in_root,
    remove_tree,
)
from labkit.host.image.entry import OPAQUE_MARK, WHITEOUT_PREFIX, Entry
from labkit.host.image.layernames import clean_name, set_opaque
from labkit.host.image.tarread import TarReader

__all__ = ["Applied", "LayerApplier"]

_CACHED_PARENTS = 32
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LayerApplier:
    """Applies members to the folder behind `root_fd`; use it as a context manager."""

    def __init__(
        self,
        root_fd: int,
        *,
        deletions: Literal["overlay", "merge"] = "overlay",
        ids: Literal["record", "require"] = "record",
    ) -> None:
        self._root = root_fd
        self._overlay = deletions == "overlay"
        self._parents: dict[tuple[str, ...], int] = {}
        self._folders: list[tuple[list[str], int]] = []  # times are set last
        self._seen: set[str] = set()
        self.result = Applied()
        self._metadata = Metadata(self.result, require_ids=ids == "require")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._forget_parents()

    def apply(self, reader: TarReader) -> Applied:
        """Apply all members of `reader`, then set the folders' times."""
        for entry in reader:
            self.add(entry, reader.content())
        return self.finish()

    def add(self, entry: Entry, content: Iterable[tuple[int, bytes]] = ()) -> None:
        """Apply one member."""
        parts = clean_name(entry.name)
        self.result.entries += 1
        if len(self._parents) >= _CACHED_PARENTS:
            self._forget_parents()
        try:
            if not parts:
                self._root_folder(entry)
            elif parts[-1].startswith(WHITEOUT_PREFIX):
                self._deletion(parts)
            else:
                self._member(parts, entry, content)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.EROFS):
                raise SystemFailure(
                    f"cannot apply the layer: {entry.name}: {error.strerror}",
                    hint="free some space, for example with docker system prune",
                ) from error
            raise InvalidParameter(
                f"cannot apply the layer: {entry.name!r}: {error.strerror}"
            ) from error

    def finish(self) -> Applied:
        """Set the folders' times, deepest first, and return what was done."""
        for parts, mtime_ns in reversed(self._folders):
            with contextlib.suppress(OSError):
                fd = self._parent_fd(parts, create=False)
                os.utime(fd, ns=(mtime_ns, mtime_ns))
        self._forget_parents()
        return self.result

    # -- parents ---------------------------------------------------------------------------

    def _forget_parents(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()

    def _parent_fd(self, parts: list[str], *, create: bool = True) -> int:
        """A descriptor of the folder `parts`, made with mode 0755 where the archive left it out."""
        if not parts:
            return self._root
        key = tuple(parts)
        fd = self._parents.get(key)
        if fd is not None:
            return fd
        try:
            fd = open_in_root(self._root, "/".join(parts), os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            if not create:
                raise
            fd = self._make_parents(parts)
        self._parents[key] = fd
        return fd

    def _make_parents(self, parts: list[str]) -> int:
        """Open the folder `parts`, making what is missing; one descriptor at a time is open."""
        above = os.dup(self._root)
        try:
            for length in range(1, len(parts) + 1):
                path = "/".join(parts[:length])
                try:
                    fd = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
                except (FileNotFoundError, NotADirectoryError):
                    _make_folder(above, parts[length - 1])
                    fd = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
                os.close(above)
                above = fd
            return os.dup(above)
        finally:
            os.close(above)

    # -- deletions -------------------------------------------------------------------------

    def _deletion(self, parts: list[str]) -> None:
        """A whiteout speaks of lower layers only: members of this layer stay, in either order."""
        name = parts[-1]
        try:
            parent = self._parent_fd(parts[:-1], create=self._overlay)
        except FileNotFoundError:
            return  # nothing there to delete from
        if name == OPAQUE_MARK:
            if self._overlay:
                set_opaque(parent)
            else:
                self._clear_folder(parent, parts[:-1])
            return
        if name.startswith(WHITEOUT_PREFIX * 2):
            return  # bookkeeping of aufs, which Docker skips as well
        target = name.removeprefix(WHITEOUT_PREFIX)
        if target in ("", ".", ".."):
            raise InvalidParameter(f"cannot apply the layer: a deletion of {target!r}")
        where = [*parts[:-1], target]
        if "/".join(where) in self._seen:
            if self._overlay:
                with contextlib.suppress(NotADirectoryError), _directory(parent, target) as fd:
                    set_opaque(fd)
            return
        self._remove(parent, target)
        if self._overlay:
            make_whiteout(parent, target)

    def _clear_folder(self, fd: int, parts: list[str]) -> None:
        for name in os.listdir(fd):
            if "/".join([*parts, name]) not in self._seen:
                self._remove(fd, name)

    def _remove(self, parent: int, name: str) -> None:
        remove_tree(name, dir_fd=parent)
        if self._parents:
            self._forget_parents_except(parent)

    def _forget_parents_except(self, keep: int) -> None:
        """Descriptors may name folders that are gone or moved; only the one in use is kept."""
        for key, fd in list(self._parents.items()):
            if fd != keep:
                os.close(fd)
                del self._parents[key]

    # -- members ---------------------------------------------------------------------------

    def _root_folder(self, entry: Entry) -> None:
        if entry.kind != "dir":
            raise InvalidParameter(f"cannot apply the layer: its root is a {entry.kind}")
        self._metadata.of_descriptor(self._root, entry, "")
        self._folders.append(([], entry.mtime_ns))

    def _member(self, parts: list[str], entry: Entry, content: Iterable[tuple[int, bytes]]) -> None:
        parent = self._parent_fd(parts[:-1])
        name = parts[-1]
        path = "/".join(parts)
        if entry.kind == "file":
            # Nearly every file is new: making it says so, and looking first would say it twice.
            fd = self._new_file(parent, name)
            if fd >= 0:
                self._see(path)
                self._fill(fd, path, entry, content)
                return
        try:
            found: os.stat_result | None = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        hides = False
        if found is not None and not (entry.kind == "dir" and stat.S_ISDIR(found.st_mode)):
            if entry.kind == "link" and self._same_file(parent, name, entry):
                return
            hides = self._overlay and is_whiteout(found, parent, name)
            self._remove(parent, name)
            found = None
        self._see(path)
        if entry.kind == "dir":
            self._folder(parent, name, parts, entry, exists=found is not None, opaque=hides)
        elif entry.kind == "file":
            fd = self._new_file(parent, name)
            if fd < 0:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._fill(fd, path, entry, content)
        elif entry.kind == "link":
            self._hard_link(parent, name, entry)
        elif entry.kind == "symlink":
            if not entry.link:
                raise InvalidParameter(f"cannot apply the layer: {path!r} links to nothing")
            os.symlink(entry.link, name, dir_fd=parent)
            self._metadata.of_name(parent, name, path, entry)
        else:
            self._node(parent, name, path, entry)

    def _see(self, path: str) -> None:
        seen = self._seen
        while path and path not in seen:
            seen.add(path)
            path = path.rpartition("/")[0]

    def _folder(
        self, parent: int, name: str, parts: list[str], entry: Entry, *, exists: bool, opaque: bool
    ) -> None:
        if not exists:
            os.mkdir(name, 0o700, dir_fd=parent)
        with _directory(parent, name) as fd:
            if opaque:
                set_opaque(fd)
            self._metadata.of_descriptor(fd, entry, "/".join(parts))
        self._folders.append((parts, entry.mtime_ns))

    @staticmethod
    def _new_file(parent: int, name: str) -> int:
        """A descriptor of a file that was not there before; -1 when something has its name."""
        try:
            return os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            return -1

    def _fill(self, fd: int, path: str, entry: Entry, content: Iterable[tuple[int, bytes]]) -> None:
        """Give a new file its content and metadata, and close it."""
        try:
            position = 0
            for offset, data in content:
                if offset != position:
                    os.lseek(fd, offset, os.SEEK_SET)
                written = os.write(fd, data)
                if written < len(data):
                    _write_all(fd, data[written:])
                position = offset + len(data)
                self.result.size += len(data)
            if position < entry.size:
                os.ftruncate(fd, entry.size)
            self._metadata.of_descriptor(fd, entry, path)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _link_source(self, entry: Entry) -> tuple[int, str, str]:
        target = clean_name(entry.link)
        if not target:
            raise InvalidParameter(f"cannot apply the layer: {entry.name!r} links to the root")
        return self._parent_fd(target[:-1], create=False), target[-1], "/".join(target)

    def _same_file(self, parent: int, name: str, entry: Entry) -> bool:
        """Whether a hard link names a file by itself: tar archives may say so twice."""
        try:
            source, last, _ = self._link_source(entry)
            one = os.stat(last, dir_fd=source, follow_symlinks=False)
            other = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)

    def _hard_link(self, parent: int, name: str, entry: Entry) -> None:
        try:
            source, last, path = self._link_source(entry)
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise InvalidParameter(
                f"cannot apply the layer: {entry.name!r} is a hard link to {entry.link!r}, "
                "which the layer does not hold"
            ) from None
        if path in self.result.refused:
            self.result.refused["/".join(clean_name(entry.name))] = self.result.refused[path]

    def _node(self, parent: int, name: str, path: str, entry: Entry) -> None:
        kinds = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
        device = os.makedev(entry.major, entry.minor)
        if entry.kind == "char" and device == 0:
            raise InvalidParameter(
                f"cannot apply the layer: {path!r} is a device 0:0, which would delete a file"
            )
        try:
            os.mknod(name, kinds[entry.kind] | 0o600, device, dir_fd=parent)
        except PermissionError:
            if self._metadata.require_ids:
                raise
            self._metadata.refuse(
                path, device=[entry.kind, entry.major, entry.minor], mode=entry.mode
            )
            return
        self._metadata.of_name(parent, name, path, entry)


def _make_folder(above: int, name: str) -> None:
    """A folder the archive left out: mode 0755, opaque where its name was deleted before."""
    hidden = False
    with contextlib.suppress(FileNotFoundError):
        if not is_whiteout(os.stat(name, dir_fd=above, follow_symlinks=False), above, name):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        os.unlink(name, dir_fd=above)
        hidden = True
    os.mkdir(name, 0o700, dir_fd=above)
    with _directory(above, name) as fd:
        os.fchmod(fd, 0o755)
        if hidden:
            set_opaque(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _directory(parent: int, name: str) -> Iterator[int]:
    fd = os.open(name, O_DIRECTORY_FLAGS, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)
