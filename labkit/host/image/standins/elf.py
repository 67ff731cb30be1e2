"""Which libraries a program needs, read from its ELF headers without running it.

Only what a loader must know is read: the interpreter (PT_INTERP), DT_NEEDED and DT_RUNPATH. Format:
the System V ABI's generic part, chapters 4 and 5.
"""

from __future__ import annotations

import glob
import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

__all__ = ["Program", "closure", "library_folders", "read_program"]

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_DEFAULT_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")


@dataclass(frozen=True, slots=True)
class Program:
    """What one ELF file asks of the loader. A static program asks nothing."""

    interpreter: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    machine: int
    bits: int


def read_program(path: Path) -> Program | None:
    """Read the headers of `path`; None for anything that is not a sound ELF file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _read(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4096)
def _read(path: Path, _mtime_ns: int, _size: int) -> Program | None:
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != b"\x7fELF":
                return None
            return _parse(data, path)
    except (OSError, ValueError, OverflowError, struct.error, IndexError):
        return None


def _parse(data: mmap.mmap, path: Path) -> Program:
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    machine = struct.unpack_from(f"{order}H", data, 18)[0]
    if wide:
        (table,) = struct.unpack_from(f"{order}Q", data, 32)
        size, count = struct.unpack_from(f"{order}HH", data, 54)
    else:
        (table,) = struct.unpack_from(f"{order}I", data, 28)
        size, count = struct.unpack_from(f"{order}HH", data, 42)
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    interpreter = ""
    for number in range(count):
        at = table + number * size
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", data, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(f"{order}IIIII", data, at)
        if kind == _PT_LOAD:
            loads.append((address, offset, length))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, length)
        elif kind == _PT_INTERP:
            interpreter = data[offset : offset + length].split(b"\0")[0].decode()
    needed: list[str] = []
    search: list[str] = []
    if dynamic is not None:
        needed, search = _dynamic(data, order, wide, dynamic, loads)
    origin = str(path.parent)
    folders = [word.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for word in search]
    return Program(interpreter, tuple(needed), tuple(folders), machine, 64 if wide else 32)


def _dynamic(
    data: mmap.mmap,
    order: str,
    wide: bool,
    where: tuple[int, int],
    loads: list[tuple[int, int, int]],
) -> tuple[list[str], list[str]]:
    width = 8 if wide else 4
    form = f"{order}{'qQ' if wide else 'iI'}"
    needed: list[int] = []
    search: list[int] = []
    strings = 0
    for at in range(where[0], where[0] + where[1], 2 * width):
        tag, value = struct.unpack_from(form, data, at)
        if tag == 0:
            break
        if tag == _DT_NEEDED:
            needed.append(value)
        elif tag in (_DT_RPATH, _DT_RUNPATH):
            search.append(value)
        elif tag == _DT_STRTAB:
            strings = value
    base = next(
        (
            strings - address + offset
            for address, offset, size in loads
            if address <= strings < address + size
        ),
        strings,
    )

    def text(offset: int) -> str:
        end = data.find(b"\0", base + offset)
        return data[base + offset : end].decode()

    folders = [word for offset in search for word in text(offset).split(":") if word]
    return [text(offset) for offset in needed], folders


@cache
def library_folders() -> tuple[str, ...]:
    """Where this machine's loader looks: /etc/ld.so.conf and the built-in folders."""
    folders: list[str] = []

    def read(path: str, depth: int = 0) -> None:
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[0] == "include" and depth < 4:
                pattern = os.path.join(os.path.dirname(path), words[1])
                for name in sorted(glob.glob(pattern)):
                    read(name, depth + 1)
            elif words and words[0].startswith("/"):
                folders.append(words[0])

    read("/etc/ld.so.conf")
    folders += [
        name
        for pattern in ("/lib/*-linux-*", "/usr/lib/*-linux-*")
        for name in sorted(glob.glob(pattern))
    ]
    folders += _DEFAULT_FOLDERS
    return tuple(dict.fromkeys(folder for folder in folders if os.path.isdir(folder)))


def _find(name: str, program: Program, extra: tuple[str, ...]) -> Path | None:
    for folder in (*program.search, *extra, *library_folders()):
        path = Path(folder, name)
        found = read_program(path)
        if found is not None and (found.machine, found.bits) == (program.machine, program.bits):
            return path
    return None


def closure(programs: Iterable[Path], extra: tuple[str, ...] = ()) -> tuple[list[Path], list[str]]:
    """All libraries and loaders the programs need, and the names that could not be found.

    `extra` are folders looked into before the machine's own.
    """
    found: dict[Path, None] = {}
    missing: dict[str, None] = {}
    by_name: dict[tuple[str, int, int, tuple[str, ...]], Path | None] = {}
    pending = list(programs)
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        program = read_program(path)
        if program is None:
            continue
        wanted: list[Path] = []
        if program.interpreter:
            wanted.append(Path(program.interpreter))
        for name in program.needed:
            key = (name, program.machine, program.bits, program.search)
            if key not in by_name:
                by_name[key] = _find(name, program, extra)
            library = by_name[key]
            if library is None:
                missing[name] = None
            else:
                wanted.append(library)
        for library in wanted:
            found[library] = None
            pending.append(library)
    return sorted(found), sorted(missing)
