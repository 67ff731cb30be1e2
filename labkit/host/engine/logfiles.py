"""The bytes of a container's log across its rotated files, in order, also while it is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["LogFiles"]

_BLOCK = 1 << 16
_BATCH = 1 << 18


class LogFiles:
    """Whole lines, a block at a time; used in threads, one call at a time.

    `open` finds the beginning. Rotation (the shim renames FILE to FILE.1) is noticed by the inode:
    what was written between the last read and the rename is read first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older: list[BinaryIO] = []
        self._file: BinaryIO | None = None
        self._rest = b""

    def open(self, tail: int | None) -> None:
        """Find the beginning: everything, or the last `tail` lines."""
        files = list(_existing(self._path))
        if tail is not None:
            kept: list[BinaryIO] = []
            for file in reversed(files):
                if tail > 0:
                    tail -= _seek_back(file, tail)
                    kept.append(file)
                elif file is files[-1]:
                    file.seek(0, os.SEEK_END)
                    kept.append(file)
                else:
                    file.close()
            files = kept[::-1]
        self._older = files[:-1]
        self._file = files[-1] if files else None

    def open_at(self, inode: int, offset: int) -> None:
        """Go on where `position` was; from the beginning of what is left when that is gone."""
        files = list(_existing(self._path))
        numbers = [os.fstat(file.fileno()).st_ino for file in files]
        if inode in numbers:
            at = numbers.index(inode)
            for file in files[:at]:
                file.close()
            files = files[at:]
            files[0].seek(offset)
        self._older, self._file = files[:-1], files[-1] if files else None

    def position(self) -> tuple[int, int]:
        """Inode and offset of the first byte that `read` has not given out."""
        file = self._older[0] if self._older else self._file
        if file is None:
            return 0, 0
        return os.fstat(file.fileno()).st_ino, file.tell() - len(self._rest)

    def read(self) -> bytes:
        """The next complete lines, each with its newline; empty when there are none for now."""
        while self._older:
            lines = self._take(self._older[0])
            if lines:
                return lines
            self._older.pop(0).close()
            self._rest = b""
        if self._file is None:
            self._file = _open(self._path)
            if self._file is None:
                return b""
        lines = self._take(self._file)
        if lines:
            return lines
        if self._was_rotated():
            # What was written between the last read and the rename; the shim has left the file.
            lines = self._take(self._file)
            if lines:
                return lines
            inode, offset = os.fstat(self._file.fileno()).st_ino, self._file.tell()
            self._file.close()
            self._rest = b""
            self.open_at(inode, offset)
            return self.read()
        return b""

    def _take(self, file: BinaryIO) -> bytes:
        while True:
            block = file.read(_BATCH)
            if not block:
                return b""
            if block.endswith(b"\n"):
                whole, self._rest = self._rest + block if self._rest else block, b""
                return whole
            end = block.rfind(b"\n") + 1
            if end:
                whole = self._rest + block[:end] if self._rest else block[:end]
                self._rest = block[end:]
                return whole
            self._rest += block

    def _was_rotated(self) -> bool:
        assert self._file is not None
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        return named.st_ino != os.fstat(self._file.fileno()).st_ino

    def close(self) -> None:
        """Let go of every file."""
        for file in (*self._older, self._file):
            if file is not None:
                file.close()
        self._older, self._file = [], None


def _open(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        return None


def _existing(path: Path) -> Iterator[BinaryIO]:
    """Rotated files oldest first, then the present one."""
    found: list[BinaryIO] = []
    number = 1
    while (file := _open(path.with_name(f"{path.name}.{number}"))) is not None:
        found.append(file)
        number += 1
    yield from reversed(found)
    present = _open(path)
    if present is not None:
        yield present


def _seek_back(file: BinaryIO, lines: int) -> int:
    """Place `file` at the beginning of its last `lines` lines; returns how many it had."""
    end = file.seek(0, os.SEEK_END)
    position, seen = end, 0
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        # The newline that ends the last line begins none.
        stop = len(block) - 1 if position + size == end else len(block)
        while (stop := block.rfind(b"\n", 0, stop)) >= 0:
            seen += 1
            if seen == lines:
                file.seek(position + stop + 1)
                return seen
    file.seek(0)
    return seen + (1 if end else 0)
