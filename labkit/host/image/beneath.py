"""File-system work below one folder, by descriptor, with nothing outside within reach.

Every path that an archive or a container wrote is hostile: it may pass through a symbolic link
that leads out of the tree. Paths are therefore opened, never spelt (style.md 20): openat2(2) with
RESOLVE_IN_ROOT treats the tree's folder as `/` while it follows links. Kernels before 5.6, and
sandboxes that filter the call, get a walk which refuses links instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import stat
import struct
from collections.abc import Iterator
from functools import cache

__all__ = [
    "O_DIRECTORY_FLAGS",
    "is_whiteout",
    "make_whiteout",
    "open_directory",
    "open_in_root",
    "proc_path",
    "remove_tree",
]

O_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL = 0x10
_FS_APPEND_FL = 0x20
_WHITEOUT_XATTR = "user.labkit.whiteout"
_unique = itertools.count()


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(root_fd: int, path: str, flags: int, mode: int, stay: int = _RESOLVE_NO_XDEV) -> int:
    how = _OpenHow(flags, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | stay)
    while True:
        fd = int(
            _libc().syscall(
                _SYS_OPENAT2,
                root_fd,
                os.fsencode(path or "."),
                ctypes.byref(how),
                ctypes.sizeof(how),
            )
        )
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        # EAGAIN: a rename elsewhere made the kernel unsure about `..`; asking again is safe.
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)


@cache
def _has_openat2() -> bool:
    fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(_openat2(fd, ".", os.O_PATH | os.O_CLOEXEC, 0))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    finally:
        os.close(fd)
    return True


def open_in_root(
    root_fd: int, path: str, flags: int, mode: int = 0, *, cross_mounts: bool = False
) -> int:
    """Open `path` as if the folder `root_fd` were `/`; returns a close-on-exec descriptor.

    Links are followed inside the root (never out of it), and never into another mount unless
    `cross_mounts`, which is for a container's own tree with its volumes. Without openat2 a link on
    the way raises OSError(ELOOP).
    """
    flags |= os.O_CLOEXEC
    if _has_openat2():
        return _openat2(root_fd, path, flags, mode, 0 if cross_mounts else _RESOLVE_NO_XDEV)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    if not parts:
        return os.open(".", flags, mode, dir_fd=root_fd)
    with contextlib.ExitStack() as stack:
        current = root_fd
        for part in parts[:-1]:
            current = os.open(part, os.O_PATH | O_DIRECTORY_FLAGS, dir_fd=current)
            stack.callback(os.close, current)
        return os.open(parts[-1], flags | os.O_NOFOLLOW, mode, dir_fd=current)


def open_directory(name: str | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """Open one folder without following a link in its last part."""
    return os.open(name, O_DIRECTORY_FLAGS, dir_fd=dir_fd)


def proc_path(dir_fd: int, name: str) -> str:
    """A spelling of `name` in the folder `dir_fd` for calls that take no descriptor (xattrs)."""
    return f"/proc/self/fd/{dir_fd}/{name}"


def make_whiteout(dir_fd: int, name: str) -> None:
    """Mark a name as deleted, for overlayfs where it can be used on this file system.

    overlayfs refuses its own mark on itself (a lab inside a container): an empty file of mode 0
    with an attribute says the same there, where layers are copied and never mounted.
    """
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=dir_fd)
    except PermissionError:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o000, dir_fd=dir_fd)
        try:
            os.setxattr(fd, _WHITEOUT_XATTR, b"y")
        finally:
            os.close(fd)


def is_whiteout(found: os.stat_result, dir_fd: int, name: str) -> bool:
    """Whether this name is a mark for a deleted one (see make_whiteout)."""
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == 0
    if found.st_mode != stat.S_IFREG or found.st_size:
        return False
    try:
        return os.getxattr(proc_path(dir_fd, name), _WHITEOUT_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _clear_flags(dir_fd: int, name: str) -> None:
    """Drop the immutable and append-only flags, on which unlink fails even for root."""
    with contextlib.suppress(OSError):
        fd = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd
        )
        try:
            flags = bytearray(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))
            value = struct.unpack_from("=I", flags)[0]
            if value & (_FS_IMMUTABLE_FL | _FS_APPEND_FL):
                struct.pack_into("=I", flags, 0, value & ~(_FS_IMMUTABLE_FL | _FS_APPEND_FL))
                fcntl.ioctl(fd, _FS_IOC_SETFLAGS, bytes(flags))
        finally:
            os.close(fd)


def _make_removable(dir_fd: int, name: str) -> None:
    """Undo what keeps `name` from being removed or moved: flags on it and on its folder, modes."""
    _clear_flags(dir_fd, name)
    _clear_flags(dir_fd, ".")
    with contextlib.suppress(OSError):
        os.fchmod(dir_fd, 0o700)
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.chmod(name, 0o700, dir_fd=dir_fd)


@contextlib.contextmanager
def _opened(dir_fd: int, name: str) -> Iterator[int]:
    try:
        fd = open_directory(name, dir_fd=dir_fd)
    except PermissionError:
        _make_removable(dir_fd, name)
        fd = open_directory(name, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def remove_tree(name: str, *, dir_fd: int) -> None:
    """Remove a file or a tree of any depth; a missing name is no error.

    Non-empty sub-folders are first moved up beside their root, so the depth of the tree costs
    neither recursion nor descriptors, and no path ever grows beyond two names.
    """
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        _retry(lambda: os.unlink(name, dir_fd=dir_fd), dir_fd, name)
        return
    with _opened(dir_fd, name) as top:
        pending = _empty_folder(top, top)
        while pending:
            moved = pending.pop()
            with _opened(top, moved) as fd:
                pending += _empty_folder(fd, top)
            _retry(lambda moved=moved: os.rmdir(moved, dir_fd=top), top, moved)
    _retry(lambda: os.rmdir(name, dir_fd=dir_fd), dir_fd, name)


def _empty_folder(fd: int, top: int) -> list[str]:
    """Remove what is in `fd`; sub-folders that are not empty move to `top`. Returns their names."""
    moved: list[str] = []
    for name in os.listdir(fd):
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                _retry(lambda name=name: os.unlink(name, dir_fd=fd), fd, name)
                continue
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError:
                if fd == top:
                    moved.append(name)
                    continue
                target = f".labkit-remove-{os.getpid()}-{next(_unique)}"
                _retry(
                    lambda name=name, target=target: os.rename(
                        name, target, src_dir_fd=fd, dst_dir_fd=top
                    ),
                    fd,
                    name,
                )
                moved.append(target)
        except FileNotFoundError:
            continue
    return moved


def _retry(action: object, dir_fd: int, name: str) -> None:
    """Run `action`; on refusal clear what may cause it and run it once more."""
    assert callable(action)
    try:
        action()
    except FileNotFoundError:
        return
    except PermissionError:
        _make_removable(dir_fd, name)
        action()
