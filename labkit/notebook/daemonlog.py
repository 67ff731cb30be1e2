"""The daemon's own log, for `labkit logs` and `%lab logs`: the end of a file, and what is added."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from labkit.base.errors import InvalidParameter, NotFound
from labkit.base.paths import LabPaths

__all__ = ["added", "last_lines", "main"]

_PIECE = 1 << 16
_LOOK_EVERY_S = 0.3
_USAGE = """Usage:  labkit logs [-f] [-n LINES]

The daemon's log: what it did, warned of, and failed at.

  -f, --follow        Go on with what is added, until interrupted
  -n, --tail LINES    How many lines of the end to begin with (default 50; "all" for everything)
"""


def last_lines(path: Path, count: int | None) -> tuple[bytes, int]:
    """The last `count` lines of a file (None for all of it), and where they end.

    Raises NotFound where the daemon has not written any yet.
    """
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            start, found = end, b""
            while start > 0 and (count is None or found.count(b"\n") <= count):
                size = min(_PIECE, start)
                start -= size
                file.seek(start)
                found = file.read(size) + found
    except FileNotFoundError:
        raise NotFound(
            f"the daemon has not written a log yet: {path}", hint="labkit up starts the daemon"
        ) from None
    if count is None:
        return found, end
    lines = found.splitlines(keepends=True)
    return b"".join(lines[max(0, len(lines) - count) :]), end


def added(path: Path, position: int) -> Iterator[bytes]:
    """What is written behind `position`, without end; a file that takes its place is begun anew."""
    file = open(path, "rb")  # noqa: SIM115 - another one may take its place
    try:
        file.seek(position)
        while True:
            data = file.read(_PIECE)
            if data:
                yield data
                continue
            if _is_another(file.fileno(), path):
                file.close()
                file = open(path, "rb")  # noqa: SIM115
                continue
            time.sleep(_LOOK_EVERY_S)
    finally:
        file.close()


def _is_another(descriptor: int, path: Path) -> bool:
    """Whether the log was rotated: the name belongs to another file, or the file was cut."""
    try:
        named, held = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return named.st_ino != held.st_ino or held.st_size < os.lseek(descriptor, 0, os.SEEK_CUR)


def _read_arguments(argv: list[str]) -> tuple[bool, int | None]:
    follow, count = False, 50
    words = list(argv)
    every = False
    while words:
        word = words.pop(0)
        if word in ("-f", "--follow"):
            follow = True
            continue
        name, equals, value = word.partition("=")
        if name not in ("-n", "--tail") or not (equals or words):
            raise InvalidParameter(f"labkit logs: cannot read '{word}'", hint="labkit logs --help")
        value = value if equals else words.pop(0)
        every = value == "all"
        if not every and not value.isdecimal():
            raise InvalidParameter(f"'{value}' is not a number of lines", hint="labkit logs -n 100")
        count = 0 if every else int(value)
    return follow, None if every else count


def main(argv: list[str], paths: LabPaths) -> int:
    """`labkit logs`."""
    import sys

    if "--help" in argv or "-h" in argv:
        print(_USAGE, end="")
        return 0
    follow, count = _read_arguments(argv)
    text, position = last_lines(paths.daemon_log, count)
    out = sys.stdout.buffer
    out.write(text)
    out.flush()
    if follow:
        for data in added(paths.daemon_log, position):
            out.write(data)
            out.flush()
    return 0
