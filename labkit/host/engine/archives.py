"""HEAD, GET and PUT /containers/X/archive: what `docker cp` is made of."""

from __future__ import annotations

import asyncio
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.base.errors import Forbidden, InvalidParameter, NotFound, SystemFailure
from labkit.host.engine.archivepaths import base_name, evaluated, header_of, located
from labkit.host.engine.container import Container
from labkit.host.engine.containerfs import opened_root
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.engine.starting import root_of
from labkit.host.engine.unpacking import Unpacking, unpack
from labkit.host.engine.users import resolve_user
from labkit.host.image.beneath import open_in_root
from labkit.host.image.difftree import Members
from labkit.host.image.layers import decompressor
from labkit.host.image.tarread import ByteSource
from labkit.host.image.tarwrite import TarWriter
from labkit.host.image.treewalk import walk

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["ReadableArchive", "read_archive", "stat_path", "write_archive"]

_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class ReadableArchive:
    """One GET: the header's value, and a function that writes the tar (in a thread)."""

    header: str
    write: Callable[[Callable[[bytes], object]], None]


def _absolute(path: str) -> str:
    """`path` from the container's root, cleaned; a trailing `/` or `/.` keeps its meaning."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        return clean
    if path.endswith("/."):
        return clean + "/."
    return clean + "/" if path.endswith("/") else clean


def _missing(container: Container, path: str) -> NotFound:
    return NotFound(
        f"Could not find the file {path} in container {container.name}",
        hint=f"`docker exec {container.name} ls -l {posixpath.dirname(path) or '/'}` lists what is",
    )


def _found(container: Container, path: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _missing(container, path)
    return SystemFailure(f"cannot open {path} in container {container.name}: {error.strerror}")


async def stat_path(context: Context, reference: str, path: str) -> str:
    """HEAD: the value of X-Docker-Container-Path-Stat for `path`."""
    container = context.find(reference)
    wanted = _absolute(path)
    async with opened_root(context, container) as root:

        def look() -> str:
            with located(root, wanted) as place:
                return header_of(root, wanted, place.stat)

        try:
            return await asyncio.to_thread(look)
        except OSError as error:
            raise _found(container, path, error) from error


@asynccontextmanager
async def read_archive(
    context: Context, reference: str, path: str
) -> AsyncIterator[ReadableArchive]:
    """GET: the tar of a file, a link, or a folder with all it holds. Names begin with the last
    word of `path`."""
    container = context.find(reference)
    wanted = _absolute(path)
    async with opened_root(context, container) as root:

        def look() -> str:
            with located(root, wanted) as place:
                return header_of(root, wanted, place.stat)

        try:
            header = await asyncio.to_thread(look)
        except OSError as error:
            raise _found(container, path, error) from error
        yield ReadableArchive(header, lambda write: _write_tar(root, wanted, write))
    await context.container_event(container, "archive-path", path=path)


def _write_tar(root: int, path: str, write: Callable[[bytes], object]) -> None:
    writer = TarWriter(write)
    members = Members(writer)
    base = base_name(path)
    with located(root, path) as place:
        members.add(base, place.stat, place.folder, place.name)
        if stat.S_ISDIR(place.stat.st_mode):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            folder = os.open(place.name, flags, dir_fd=place.folder)
            try:
                for where, found, above, name in walk(folder, base.rstrip("/")):
                    members.add(where, found, above, name)
            finally:
                os.close(folder)
    writer.close()


class _Headed:
    """A source whose first bytes were looked at already."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.head = b""
        while len(self.head) < _HEAD_BYTES and (piece := source.read(_HEAD_BYTES - len(self.head))):
            self.head += piece
        self._left = self.head

    def read(self, size: int, /) -> bytes:
        if self._left:
            piece, self._left = self._left[:size], self._left[size:]
            return piece
        return self._source.read(size)


async def write_archive(
    context: Context,
    reference: str,
    path: str,
    source: ByteSource,
    *,
    keep_kinds: bool = False,
    copy_owner: bool = False,
) -> None:
    """PUT: unpack `source` (a tar, compressed or not) into the existing folder `path`.

    `copy_owner` gives everything to the container's user. `source` is read in a thread.
    """
    container = context.find(reference)
    wanted = _absolute(path)
    async with opened_root(context, container) as root:
        owner = await _user_of(context, container) if copy_owner else None

        def work() -> None:
            try:
                folder = open_in_root(root, wanted, os.O_PATH, cross_mounts=True)
            except OSError as error:
                raise _found(container, path, error) from error
            is_folder = stat.S_ISDIR(os.fstat(folder).st_mode)
            os.close(folder)
            if not is_folder:
                raise InvalidParameter("extraction point is not a directory")
            real = evaluated(root, wanted)
            _check_writable(container, real)
            headed = _Headed(source)
            unpack(
                Unpacking(root, real, keep_kinds=keep_kinds, owner=owner),
                decompressor(headed, headed.head),
            )

        await asyncio.to_thread(work)
    await context.container_event(container, "extract-to-dir", path=path)


def _check_writable(container: Container, path: str) -> None:
    """Docker's sentences; the kernel would refuse by itself."""
    covering = ""
    writable = not container.host.readonly_rootfs
    for mount in container.definition.mounts:
        target = mount.target.rstrip("/")
        inside = path == target or path.startswith(target + "/")
        if mount.kind != "tmpfs" and inside and len(target) > len(covering):
            covering, writable = target, mount.writable
    if not writable:
        what = "mounted volume" if covering else "container rootfs"
        raise Forbidden(f"{what} is marked read-only")


async def _user_of(context: Context, container: Container) -> tuple[int, int] | None:
    if not container.config.user:
        return None
    files = RootFiles(await root_of(context, container))
    who = await asyncio.to_thread(resolve_user, files, container.config.user, ())
    return who.uid, who.gid
