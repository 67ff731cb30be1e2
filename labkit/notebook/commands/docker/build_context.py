"""The build context as a tar stream: only what `.dockerignore` leaves is opened, nothing is held.

Order, owners and times are those of Docker's client: sorted by name, root's, whole seconds.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labkit.base.dockerignore import IgnoreRules
from labkit.base.errors import CommandError, InvalidParameter

__all__ = ["LocalContext", "archive", "local_context", "single_file"]

_CHUNK = 1 << 18
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_IGNORE = ".dockerignore"


@dataclass(frozen=True, slots=True)
class LocalContext:
    """A folder that is to be sent, and the Dockerfile: inside it, or `outside` as bytes."""

    folder: Path
    dockerfile: str
    rules: IgnoreRules
    ignore_text: bytes
    outside: bytes | None = None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def local_context(
    folder: Path, cwd: Path, dockerfile: str = "", stdin: bytes | None = None
) -> LocalContext:
    """Look at a context without reading it. `stdin` is the Dockerfile of `-f -`; any other
    `dockerfile` is relative to `cwd`.

    Raises CommandError with the client's sentences.
    """
    real = Path(os.path.realpath(folder))
    if not real.is_dir():
        raise CommandError(
            f"unable to prepare context: context must be a directory: {os.path.abspath(folder)}"
        )
    name, outside = _find_dockerfile(real, cwd, dockerfile, stdin)
    text = b""
    with suppress(FileNotFoundError, NotADirectoryError):
        text = (real / _IGNORE).read_bytes()
    try:
        rules = IgnoreRules(text.decode("utf-8", "replace"))
    except InvalidParameter as error:
        reason = error.message.removeprefix("error reading .dockerignore: ")
        raise CommandError(f"error checking context: {reason}") from None
    # The builder needs both, whatever the rules say; it applies the rules once more.
    if rules.excludes(_IGNORE):
        rules.add(_IGNORE, negated=True)
    if outside is None and rules.excludes(name):
        rules.add(re.sub(r"([\\*?\[\]])", r"\\\1", name), negated=True)
    return LocalContext(real, name, rules, text, outside)


def _find_dockerfile(
    real: Path, cwd: Path, dockerfile: str, stdin: bytes | None
) -> tuple[str, bytes | None]:
    """The file's path in the context, or a name for it and its content when it lies outside."""
    if stdin is not None:
        return _outside_name(), stdin
    where = Path(os.path.abspath(cwd / dockerfile)) if dockerfile else real / "Dockerfile"
    if not dockerfile and not where.exists() and (real / "dockerfile").exists():
        where = real / "dockerfile"
    try:
        found = Path(os.path.realpath(where, strict=True))
    except OSError as error:
        raise CommandError(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {where}: {_reason(error)}"
        ) from None
    if found.is_relative_to(real):
        return str(found.relative_to(real)), None
    try:
        return _outside_name(), found.read_bytes()
    except OSError as error:
        raise CommandError(f"unable to open Dockerfile: open {found}: {_reason(error)}") from None


def _outside_name() -> str:
    return f".dockerfile.{secrets.token_hex(10)}"


def single_file(name: str, data: bytes, mtime_s: int) -> Iterator[bytes]:
    """An archive of one file: a Dockerfile that came alone."""
    yield from _with_content(_member(name, mtime_s, len(data), 0o644), [data])
    yield _END


def archive(context: LocalContext, count: Callable[[int], object]) -> Iterator[bytes]:
    """The tar stream. `count` hears how many bytes of each piece Docker's client would count."""
    outside = context.outside

    def counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            count(len(piece))
            yield piece

    if outside is None:
        yield from counted(_members(context, {}))
        yield from counted([_END])
        return
    ignore = context.ignore_text + b"\n" if context.ignore_text else b""
    ignore += context.dockerfile.encode() + b"\n"
    replaced = {_IGNORE: ignore}
    yield from counted(_members(context, replaced))
    now = int(os.stat(context.folder).st_mtime)
    if _IGNORE in replaced:
        yield from counted(_with_content(_member(_IGNORE, now, len(ignore)), [ignore]))
    # The real client leaves the padding out and does not count it; readers want it.
    count(_BLOCK + len(outside))
    yield from _with_content(_member(context.dockerfile, now, len(outside)), [outside])
    yield _END


def _member(name: str, mtime_s: int, size: int, mode: int = 0o600) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, mtime_s, mode
    return member


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _with_content(member: tarfile.TarInfo, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """One member; content that grew meanwhile is cut, one that shrank is filled with zeros."""
    yield _header(member)
    left = member.size
    for piece in pieces:
        piece = piece[:left]
        left -= len(piece)
        if piece:
            yield piece
    while left:
        yield bytes(min(left, _CHUNK))
        left -= min(left, _CHUNK)
    if member.size % _BLOCK:
        yield bytes(-member.size % _BLOCK)


def _members(context: LocalContext, replaced: dict[str, bytes]) -> Iterator[bytes]:
    """Everything below the folder; what stands in `replaced` gets that content, and is taken."""
    seen: dict[tuple[int, int], str] = {}
    for path, entry in _walk(context.folder, "", context.rules):
        found = entry.stat(follow_symlinks=False)
        if path in replaced:
            data = replaced.pop(path)
            mode = stat.S_IMODE(found.st_mode)
            edited = _member(path, int(found.st_mtime), len(data), mode)
            yield from _with_content(edited, [data])
            continue
        member = _described(path, entry.path, found)
        if member is None:
            continue
        if found.st_nlink > 1 and stat.S_ISREG(found.st_mode):
            first = seen.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
                yield _header(member)
                continue
        if stat.S_ISREG(found.st_mode):
            yield from _with_content(member, _content(entry.path))
        else:
            yield _header(member)


def _content(path: str) -> Iterator[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError:
        raise CommandError(f"error checking context: no permission to read from '{path}'") from None
    except OSError as error:
        raise CommandError(f"error reading the context: {path}: {_reason(error)}") from None
    with open(fd, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            yield data


def _walk(folder: Path, prefix: str, rules: IgnoreRules) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Names that are not excluded, sorted, folders before their content."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except PermissionError:
        raise CommandError(f"error checking context: can't stat '{folder}'") from None
    for entry in entries:
        path = f"{prefix}{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        excluded = bool(rules) and rules.excludes(path)
        if not excluded:
            yield path, entry
        if is_folder and (not excluded or rules.may_hold_exceptions(path)):
            yield from _walk(folder / entry.name, f"{path}/", rules)


def _described(path: str, where: str, found: os.stat_result) -> tarfile.TarInfo | None:
    """The header of one name, or None for a socket."""
    member = _member(path, int(found.st_mtime), 0)
    member.mode = stat.S_IMODE(found.st_mode)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        member.size = found.st_size
        try:
            value = os.getxattr(where, "security.capability", follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EACCES, errno.EPERM):
                raise CommandError(f"error checking context: {where}: {_reason(error)}") from None
        else:
            text = value.decode("utf-8", "surrogateescape")
            member.pax_headers = {"SCHILY.xattr.security.capability": text}
    elif kind == stat.S_IFDIR:
        member.type, member.name = tarfile.DIRTYPE, f"{path}/"
    elif kind == stat.S_IFLNK:
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(where)
    elif kind == stat.S_IFIFO:
        member.type = tarfile.FIFOTYPE
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        member.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        member.devmajor, member.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    else:
        return None
    return member
