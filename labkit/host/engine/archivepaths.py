"""Where an archive endpoint's path leads, and what Docker tells about it.

Paths are the user's words: `/etc/` and `/etc/.` mean the folder behind a link, `/etc` the link.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labkit.host.engine.times import format_time
from labkit.host.image.beneath import open_in_root

__all__ = ["Place", "base_name", "evaluated", "header_of", "located"]

_FOLDER = os.O_PATH | os.O_DIRECTORY
_MAX_LINKS = 255

# Go's io/fs FileMode: bits above the permissions.
_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


@dataclass(frozen=True, slots=True)
class Place:
    """One name: a descriptor of its folder, and the name there (`.` is the folder itself)."""

    folder: int
    name: str
    stat: os.stat_result


def base_name(path: str) -> str:
    """The last word of `path` as Go's filepath.Base gives it: `.` stays, `/` is `/`."""
    trimmed = path.rstrip("/")
    return trimmed.rpartition("/")[2] if trimmed else "/"


@contextmanager
def located(root: int, path: str) -> Iterator[Place]:
    """The name at `path`; its last part is not followed unless the path ends in `/` or `/.`.

    Raises OSError as openat2(2) does.
    """
    above, _, last = path.rpartition("/")
    if last in ("", ".", ".."):
        above, last = path, "."
    folder = open_in_root(root, above or ".", _FOLDER, cross_mounts=True)
    try:
        yield Place(folder, last, os.stat(last, dir_fd=folder, follow_symlinks=False))
    finally:
        os.close(folder)


def evaluated(root: int, path: str) -> str:
    """The absolute path, inside the container, that `path` comes to when all links are followed.

    What is not there (any more) is taken as it is spelt. It is information for the client and
    opens nothing.
    """
    trail: list[str] = []
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del trail[-1:]
            continue
        target = _link_target(root, trail, part) if links < _MAX_LINKS else None
        if target is None:
            trail.append(part)
            continue
        links += 1
        if target.startswith("/"):
            trail.clear()
        pending += [word for word in reversed(target.split("/")) if word not in ("", ".")]
    return "/" + "/".join(trail)


def _link_target(root: int, trail: list[str], name: str) -> str | None:
    try:
        folder = open_in_root(root, "/".join(trail) or ".", _FOLDER, cross_mounts=True)
    except OSError:
        return None
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)


def _go_mode(mode: int) -> int:
    found = stat.S_IMODE(mode) & 0o777 | _TYPES.get(stat.S_IFMT(mode), 0)
    for bit, go in _SPECIAL:
        if mode & bit:
            found |= go
    return found


def header_of(root: int, path: str, found: os.stat_result) -> str:
    """The value of X-Docker-Container-Path-Stat: base64 of a JSON object."""
    is_link = stat.S_ISLNK(found.st_mode)
    shown = {
        "name": base_name(path),
        "size": found.st_size,
        "mode": _go_mode(found.st_mode),
        "mtime": format_time(found.st_mtime_ns),
        "linkTarget": evaluated(root, path) if is_link else "",
    }
    return base64.b64encode(json.dumps(shown, separators=(",", ":")).encode()).decode()
