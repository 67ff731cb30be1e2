"""`cp`, `export`, `import`, `save`, `load`: tar streams to and from the engine."""

from __future__ import annotations

import base64
import io
import json
import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.base.quantities import format_size
from labkit.notebook.apierrors import ApiError
from labkit.notebook.commands.docker.reference import parse_image_name
from labkit.notebook.commands.progress import show_progress

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["copy", "export", "import_image", "load", "save"]

_CHUNK = 1 << 16
_DIRECTORY = 1 << 31  # Go's os.ModeDir
_LINK = 1 << 27  # Go's os.ModeSymlink


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while data := source.read(_CHUNK):
        yield data


def _stdin(call: Call) -> IO[bytes]:
    if call.surface.stdin is None:
        raise CommandError("there is no stdin to read from")
    return call.surface.stdin


# -- whole images and containers -----------------------------------------------------------


def _write_out(call: Call, chunks: Iterable[bytes], name: str) -> None:
    """To the file, through a temporary one beside it, or to stdout."""
    if not name:
        if getattr(call.surface, "stdout_is_terminal", False):
            raise CommandError(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect"
            )
        for data in chunks:
            call.surface.out_bytes(data)
        return
    target = call.cwd / name
    if not target.parent.is_dir():
        raise CommandError(
            f'invalid output path: directory "{os.path.dirname(name)}" does not exist'
        )
    if target.is_dir():
        raise CommandError(f'invalid output path: "{name}" must be a regular file')
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            for data in chunks:
                file.write(data)
        temporary.replace(target)
    except OSError as error:
        raise CommandError(f"open {name}: {(error.strerror or '').lower()}") from None
    finally:
        temporary.unlink(missing_ok=True)


def export(call: Call) -> None:
    """The files of a container as a tar archive."""
    with call.client.open("GET", f"/containers/{call.args[0]}/export") as answer:
        _write_out(call, answer.chunks(), call.flags["output"])


def save(call: Call) -> None:
    """Images as a tar archive."""
    query: dict[str, Any] = {"names": list(call.args)}
    with call.client.open("GET", "/images/get", query=query) as answer:
        _write_out(call, answer.chunks(), call.flags["output"])


def load(call: Call) -> None:
    """Images from a tar archive."""
    name = call.flags["input"]
    quiet = call.flags["quiet"] or not getattr(call.surface, "stdout_is_terminal", False)
    try:
        source = open(call.cwd / name, "rb") if name else _stdin(call)  # noqa: SIM115
    except OSError as error:
        raise CommandError(f"open {name}: {(error.strerror or '').lower()}") from None
    try:
        messages = call.client.stream(
            "POST",
            "/images/load",
            query={"quiet": quiet},
            body=_chunks(source),
            headers={"Content-Type": "application/x-tar"},
        )
        show_progress(messages, call.surface)
    finally:
        if name:
            source.close()


def import_image(call: Call) -> None:
    """An image from the files in a tar archive."""
    source, reference = call.args[0], call.args[1] if len(call.args) > 1 else ""
    query: dict[str, Any] = {
        "fromSrc": "-",
        "message": call.flags["message"] or None,
        "changes": call.flags["change"] or None,
        "platform": call.flags["platform"] or None,
    }
    if reference:
        parse_image_name(reference)
        query["repo"] = reference
    body: Iterable[bytes] | None = None
    file: IO[bytes] | None = None
    if source.startswith(("http://", "https://")):
        query["fromSrc"] = source
    elif source == "-":
        body = _chunks(_stdin(call))
    else:
        try:
            file = open(call.cwd / source, "rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise CommandError(f"open {source}: {(error.strerror or '').lower()}") from None
        body = _chunks(file)
    try:
        messages = call.client.stream(
            "POST", "/images/create", query=query, body=body, headers={"Content-Type": "text/plain"}
        )
        show_progress(messages, call.surface)
    finally:
        if file is not None:
            file.close()


# -- cp ------------------------------------------------------------------------------------


def _split(text: str) -> tuple[str, str]:
    """Container and path; a container of "" means this machine."""
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path


def copy(call: Call) -> None:
    """Copy files between a container and this machine."""
    source, target = (_split(text) for text in call.args)
    if source[0] and target[0]:
        raise CommandError("copying between containers is not supported")
    if not source[0] and not target[0]:
        raise CommandError("must specify at least one container source")
    if source[0]:
        _copy_from(call, *source, target[1])
    else:
        _copy_to(call, source[1], *target)


def _is_quiet(call: Call) -> bool:
    """Where nobody watches, nothing is said, unless it is asked for."""
    if call.flags.given("quiet"):
        return bool(call.flags["quiet"])
    return not getattr(call.surface, "stdout_is_terminal", False)


def _stat(call: Call, container: str, path: str) -> dict[str, Any]:
    response = call.client.request(
        "HEAD", f"/containers/{container}/archive", query={"path": path}, check=False
    )
    if response.status >= 400:
        raise ApiError(f"Could not find the file {path} in container {container}", response.status)
    header = response.headers.get("X-Docker-Container-Path-Stat") or "e30="
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    return found


def _clean_member(member: tarfile.TarInfo, root: str, renamed: str) -> tarfile.TarInfo | None:
    """The member below another root name; None for one that would leave its folder."""
    name = posixpath.normpath(member.name)
    if name.startswith("/") or ".." in name.split("/"):
        return None
    if name == root or name.startswith(f"{root}/"):
        name = posixpath.normpath(renamed + name[len(root) :])
    member.name = name
    if member.islnk() and member.linkname.startswith(f"{root}/"):
        member.linkname = renamed + member.linkname[len(root) :]
    return member


def _copy_from(call: Call, container: str, path: str, target: str) -> None:
    if call.flags["follow-link"]:
        found = _stat(call, container, path)
        if found.get("mode", 0) & _LINK and found.get("linkTarget"):
            path = found["linkTarget"]
    query = {"path": path}
    with call.client.open("GET", f"/containers/{container}/archive", query=query) as answer:
        if target == "-":
            for data in answer.chunks():
                call.surface.out_bytes(data)
            return
        destination = call.cwd / target
        header = answer.headers.get("X-Docker-Container-Path-Stat") or "e30="
        root = json.loads(base64.b64decode(header)).get("name") or posixpath.basename(path)
        folder, renamed = _destination(destination, target, root, path)
        size = _extract(call, answer, folder, root, renamed)
    if not _is_quiet(call):
        shown = os.path.abspath(destination)
        call.surface.err(f"Successfully copied {format_size(size)} to {shown}\n")


def _destination(destination: Path, target: str, root: str, path: str) -> tuple[Path, str]:
    """The folder to unpack in, and what the copied thing is called there."""
    only_content = path.endswith("/.")
    if destination.is_dir():
        return destination, "." if only_content else root
    parent = os.path.dirname(os.path.abspath(destination))
    if not os.path.isdir(parent):
        raise CommandError(f'invalid output path: directory "{parent}" does not exist')
    if target.endswith("/"):
        raise CommandError("no such directory")
    return destination.parent, destination.name


def _extract(call: Call, answer: Any, folder: Path, root: str, renamed: str) -> int:
    size = 0
    with tarfile.open(fileobj=answer, mode="r|") as tar:
        for member in tar:
            size += 512 + (member.size + 511) // 512 * 512
            cleaned = _clean_member(member, root, renamed)
            if cleaned is None:
                raise CommandError(f"refusing {member.name}: it would leave {folder}")
            keep_owner = call.flags["archive"] and os.geteuid() == 0
            _extract_one(tar, cleaned, folder, keep_owner)
    return size + 1024


def _extract_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, owner: bool) -> None:
    """Unpack one member, never through a symbolic link below `folder`."""
    place = folder
    for part in posixpath.dirname(member.name).split("/"):
        place = place / part if part else place
        if place != folder and place.is_symlink():
            raise CommandError(f"refusing {member.name}: {place} is a symbolic link")
    if member.isdev():
        return
    tar.extract(member, folder, numeric_owner=owner, filter="tar" if owner else "data")


def _copy_to(call: Call, source: str, container: str, path: str) -> None:
    if source == "-":
        _put(call, container, path, _chunks(_stdin(call)))
        return
    local = call.cwd / source
    if not local.exists() and not local.is_symlink():
        raise CommandError(f"lstat {os.path.abspath(local)}: no such file or directory")
    if call.flags["follow-link"]:
        local = local.resolve()
    folder, name = _place_in_container(call, container, path, local)
    if source.endswith("/."):
        name = "." if name == local.name else name
    counted = [0]

    def body() -> Iterator[bytes]:
        for data in _tar_of(local, name):
            counted[0] += len(data)
            yield data

    _put(call, container, folder, body())
    if not _is_quiet(call):
        call.surface.err(f"Successfully copied {format_size(counted[0])} to {container}:{path}\n")


def _place_in_container(call: Call, container: str, path: str, local: Path) -> tuple[str, str]:
    """The existing folder to unpack in, and the name the copy gets there."""
    absolute = path if path.startswith("/") else f"/{path}"
    try:
        found = _stat(call, container, absolute)
    except ApiError as error:
        if error.status != 404:
            raise
        if path.endswith("/") and not local.is_dir():
            raise CommandError("no such directory", hint=f"there is no {path} in it") from None
        clean = absolute.rstrip("/")
        return posixpath.dirname(clean) or "/", posixpath.basename(clean)
    if found.get("mode", 0) & _LINK and found.get("linkTarget"):
        absolute = posixpath.join(posixpath.dirname(absolute), found["linkTarget"])
        found = _stat(call, container, absolute)
    if found.get("mode", 0) & _DIRECTORY:
        return absolute, local.name
    if local.is_dir():
        raise CommandError("cannot copy directory", hint=f"{path} is a file in {container}")
    return posixpath.dirname(absolute) or "/", posixpath.basename(absolute)


def _put(call: Call, container: str, folder: str, body: Iterable[bytes]) -> None:
    call.client.request(
        "PUT",
        f"/containers/{container}/archive",
        query={
            "path": folder,
            "noOverwriteDirNonDir": "true",
            "copyUIDGID": "true" if call.flags["archive"] else None,
        },
        body=body,
        headers={"Content-Type": "application/x-tar"},
    )


def _tar_of(local: Path, name: str) -> Iterator[bytes]:
    """A tar archive of a file or tree, made while it is read."""
    with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, member_name in _walk(local, name):
            if path.is_socket():
                continue  # tar has no form for sockets
            info = tar.gettarinfo(str(path), arcname=member_name)
            if info.islnk():
                info = _as_file(info, path)  # the other name may lie outside of what is copied
            yield info.tobuf(tarfile.PAX_FORMAT)
            if info.isreg():
                yield from _content(path, info.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _as_file(info: tarfile.TarInfo, path: Path) -> tarfile.TarInfo:
    info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
    return info


def _content(path: Path, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes and the padding to whole blocks, though the file may be changing."""
    left = size
    with open(path, "rb") as file:
        while left and (data := file.read(min(left, _CHUNK))):
            left -= len(data)
            yield data
    yield bytes(left + -size % tarfile.BLOCKSIZE)


def _walk(local: Path, name: str) -> Iterator[tuple[Path, str]]:
    yield local, name
    if local.is_dir() and not local.is_symlink():
        for entry in sorted(local.iterdir()):
            yield from _walk(entry, posixpath.join(name, entry.name))
