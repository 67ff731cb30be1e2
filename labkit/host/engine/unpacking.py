"""PUT /containers/X/archive: an archive's members into a folder of a container.

The container may change its tree while it is written to. Every member's folder is opened anew
beneath the container's root, and everything is done relative to that descriptor, so whatever a
race leads to is the container's own. Rules of what replaces what are those of Docker's pkg/archive.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.image.beneath import O_DIRECTORY_FLAGS, open_in_root, proc_path, remove_tree
from labkit.host.image.entry import Entry
from labkit.host.image.tarread import ByteSource, TarReader

__all__ = ["Unpacking", "unpack"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NODES = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
_HARMLESS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ERANGE})


@dataclass(frozen=True, slots=True)
class Unpacking:
    """Where to and how. `owner` replaces the archive's ids; `keep_kinds` refuses to replace a
    folder by something else and the other way round (noOverwriteDirNonDir)."""

    root: int
    folder: str
    keep_kinds: bool = False
    owner: tuple[int, int] | None = None


def unpack(where: Unpacking, source: ByteSource) -> None:
    """Unpack all of `source`, an uncompressed tar. Blocking: call it in a thread.

    Raises InvalidParameter for an archive that makes no sense or leads out of the folder.
    """
    folders: list[tuple[str, int]] = []
    try:
        reader = TarReader(source)
        for entry in reader:
            path = _member_path(where, entry.name)
            try:
                _member(where, path, entry, reader.content())
            except OSError as error:
                raise _refused(entry, error) from error
            if entry.kind == "dir":
                folders.append((path, entry.mtime_ns))
    except InvalidParameter as error:
        text = error.message.replace("cannot read the layer archive", "cannot read the archive")
        raise InvalidParameter(text, hint=error.hint) from None
    for path, mtime_ns in reversed(folders):
        with contextlib.suppress(OSError):
            folder = _open_folder(where, path)
            try:
                os.utime(folder, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(folder)


def _refused(entry: Entry, error: OSError) -> SystemFailure | InvalidParameter:
    reason = f"cannot write {entry.name}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemFailure(reason, hint="free some space, for example with docker system prune")
    if error.errno == errno.EROFS:
        return InvalidParameter(f"{reason}: it is mounted read-only in the container")
    return InvalidParameter(reason)


def _member_path(where: Unpacking, name: str) -> str:
    """`name` below the folder; one that climbs out of it is refused."""
    parts: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise InvalidParameter(f'"{name}" is outside of "{where.folder}"')
    return "/".join(parts)


@contextlib.contextmanager
def _parent(where: Unpacking, path: str) -> Iterator[int]:
    """The folder of `path`, made with mode 0755 where the archive left it out."""
    above = path.rpartition("/")[0]
    try:
        opened = _open_folder(where, above)
    except FileNotFoundError:
        _make_folders(where, above.split("/") if above else [])
        opened = _open_folder(where, above)
    try:
        yield opened
    finally:
        os.close(opened)


def _open_folder(where: Unpacking, path: str) -> int:
    return open_in_root(where.root, f"{where.folder}/{path}", _FOLDER, cross_mounts=True)


def _make_folders(where: Unpacking, parts: list[str]) -> None:
    for depth, name in enumerate(parts):
        folder = _open_folder(where, "/".join(parts[:depth]))
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=folder)
        finally:
            os.close(folder)


def _member(
    where: Unpacking, path: str, entry: Entry, content: Iterable[tuple[int, bytes]]
) -> None:
    if not path:
        if entry.kind == "dir":
            folder = _open_folder(where, "")
            try:
                _set_metadata(folder, entry, where.owner)
            finally:
                os.close(folder)
        return
    name = path.rpartition("/")[2]
    with _parent(where, path) as parent:
        exists = _make_room(where, path, parent, name, entry)
        if entry.kind == "dir":
            if not exists:
                os.mkdir(name, 0o700, dir_fd=parent)
            below = os.open(name, O_DIRECTORY_FLAGS, dir_fd=parent)
            try:
                _set_metadata(below, entry, where.owner)
            finally:
                os.close(below)
        elif entry.kind == "file":
            _file(parent, name, entry, content, where.owner)
        elif entry.kind == "link":
            _hard_link(where, parent, name, entry)
        elif entry.kind == "symlink":
            os.symlink(entry.link, name, dir_fd=parent)
            _set_name_metadata(parent, name, entry, where.owner)
        else:
            _node(parent, name, entry, where.owner)


def _make_room(where: Unpacking, path: str, parent: int, name: str, entry: Entry) -> bool:
    """Remove what the member replaces. True when it is a folder that stays."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    is_folder = stat.S_ISDIR(found.st_mode)
    if where.keep_kinds and is_folder != (entry.kind == "dir"):
        ours, theirs = ("directory", "non-directory") if is_folder else (
            "non-directory", "directory",
        )  # fmt: skip
        target = "/".join(word for word in (where.folder.rstrip("/"), path) if word)
        raise InvalidParameter(f'cannot overwrite {ours} "{target}" with {theirs} "{where.folder}"')
    if is_folder and entry.kind == "dir":
        return True
    if entry.kind == "link" and _is_same_file(where, found, entry):
        return False
    remove_tree(name, dir_fd=parent)
    return False


def _is_same_file(where: Unpacking, found: os.stat_result, entry: Entry) -> bool:
    target = _member_path(where, entry.link)
    with contextlib.suppress(OSError), _parent(where, target) as folder:
        other = os.stat(target.rpartition("/")[2], dir_fd=folder, follow_symlinks=False)
        return (found.st_dev, found.st_ino) == (other.st_dev, other.st_ino)
    return False


def _file(
    parent: int,
    name: str,
    entry: Entry,
    content: Iterable[tuple[int, bytes]],
    owner: tuple[int, int] | None,
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        position = 0
        for offset, data in content:
            if offset != position:
                os.lseek(descriptor, offset, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            position = offset + len(data)
        if position < entry.size:
            os.ftruncate(descriptor, entry.size)
        _set_metadata(descriptor, entry, owner)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(descriptor)


def _hard_link(where: Unpacking, parent: int, name: str, entry: Entry) -> None:
    target = _member_path(where, entry.link)
    # What exists already is the same file by another name.
    with _parent(where, target) as folder, contextlib.suppress(FileExistsError):
        os.link(
            target.rpartition("/")[2],
            name,
            src_dir_fd=folder,
            dst_dir_fd=parent,
            follow_symlinks=False,
        )


def _node(parent: int, name: str, entry: Entry, owner: tuple[int, int] | None) -> None:
    device = os.makedev(entry.major, entry.minor)
    try:
        os.mknod(name, _NODES[entry.kind] | 0o600, device, dir_fd=parent)
    except PermissionError:
        if entry.kind == "fifo":
            raise
        return  # a user namespace may not make devices: Docker leaves them out there, too
    _set_name_metadata(parent, name, entry, owner)


def _set_metadata(descriptor: int, entry: Entry, owner: tuple[int, int] | None) -> None:
    _tolerated(lambda: os.fchown(descriptor, *(owner or (entry.uid, entry.gid))))
    # After the owner, because changing that clears the set-user-id bits.
    os.fchmod(descriptor, entry.mode & 0o7777)
    for key, value in entry.xattrs.items():
        if key.startswith(("user.", "security.capability")):
            _tolerated(partial(os.setxattr, descriptor, key, value))


def _set_name_metadata(parent: int, name: str, entry: Entry, owner: tuple[int, int] | None) -> None:
    ids = owner or (entry.uid, entry.gid)
    _tolerated(lambda: os.chown(name, *ids, dir_fd=parent, follow_symlinks=False))
    if entry.kind != "symlink":
        # A container may have put a link there meanwhile: chmod would follow it, out of its root.
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(node).st_mode):
                os.chmod(proc_path(node, "").rstrip("/"), entry.mode & 0o7777)
        finally:
            os.close(node)
    times = (entry.mtime_ns, entry.mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _tolerated(action: Callable[[], None]) -> None:
    """What a user namespace refuses to do is left as the kernel made it."""
    try:
        action()
    except OSError as error:
        if error.errno not in _HARMLESS:
            raise
