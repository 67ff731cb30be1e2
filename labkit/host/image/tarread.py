"""A tar reader for layers: streaming, strict, and bounded in what it will hold in memory.

It reads what image tools write (POSIX ustar and pax, GNU long names, base-256 numbers, GNU and pax
sparse files) and answers everything else with one sentence. Formats: POSIX.1-2001 pax(1), the GNU
tar manual's "Basic Tar Format", and `SCHILY.xattr.*` as used by GNU tar and the OCI tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from labkit.host.image.entry import Entry, Kind
from labkit.host.image.tarfields import (
    broken,
    checked_size,
    decimal,
    number_field,
    parse_pax,
    pax_time_ns,
    text_field,
)

__all__ = ["BLOCK", "ByteSource", "TarLimits", "TarReader"]

BLOCK: Final = 512
_MAX_SECONDS: Final = 1 << 34  # what ext4 can store
_KINDS: Mapping[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "link",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}


class ByteSource(Protocol):
    """Anything with `read`: it may return fewer bytes than asked, and b"" only at the end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Bounds on one archive. What lies beyond them is a bomb or a broken tool, not a layer."""

    extended_header_bytes: int = 1 << 20
    """One pax header or long name; Go's reader, which Docker uses, draws the same line."""
    sparse_extents: int = 1 << 16
    entries: int = 4_000_000
    content_bytes: int = 256 << 30
    """Sum of all file content."""
    trailing_bytes: int = 64 << 20
    """What may follow the closing blocks (tape drives wanted padding)."""


class TarReader:
    """Iterates over members; `content()` yields the present one's bytes."""

    def __init__(self, source: ByteSource, limits: TarLimits | None = None) -> None:
        self._source = source
        self._limits = limits or TarLimits()
        self._left = 0  # stored bytes of the present member not read yet
        self._padding = 0
        self._count = 0
        self._total = 0

    def __iter__(self) -> Iterator[Entry]:
        while True:
            entry = self._next()
            if entry is None:
                return
            yield entry

    def content(self, chunk: int = 1 << 18) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of the present member's data; holes are skipped."""
        for offset, length in self._extents:
            while length:
                data = self._source.read(min(chunk, length))
                if not data:
                    raise broken("it ends in the middle of a file")
                self._left -= len(data)
                yield offset, data
                offset += len(data)
                length -= len(data)

    # -- one member ------------------------------------------------------------------------

    def _next(self) -> Entry | None:
        self._skip()
        pax: dict[str, bytes] = {}
        long_name: str | None = None
        long_link: str | None = None
        while True:
            header = self._header()
            if header is None:
                if pax or long_name is not None or long_link is not None:
                    raise broken("it ends after an extended header")
                return None
            flag = header[156:157]
            size = checked_size(number_field(header[124:136], "a size"), "a size")
            if flag == b"x":
                pax.update(parse_pax(self._extended(size)))
            elif flag == b"g":
                self._extended(size)  # global defaults: Docker ignores them as well
            elif flag == b"L":
                long_name = text_field(self._extended(size))
            elif flag == b"K":
                long_link = text_field(self._extended(size))
            else:
                return self._entry(header, flag, size, pax, long_name, long_link)

    def _entry(
        self,
        header: bytes,
        flag: bytes,
        size: int,
        pax: dict[str, bytes],
        long_name: str | None,
        long_link: str | None,
    ) -> Entry:
        kind = _KINDS.get(flag)
        if kind is None:
            raise broken(f"unknown kind of member {flag!r}")
        name = text_field(header[0:100])
        if header[257:263] == b"ustar\0" and header[345:346] != b"\0":
            name = f"{text_field(header[345:500])}/{name}"
        name = long_name if long_name is not None else name
        entry = Entry(
            name=name,
            kind=kind,
            mode=number_field(header[100:108], "a mode") & 0o7777,
            uid=number_field(header[108:116], "an owner"),
            gid=number_field(header[116:124], "a group"),
            mtime_ns=number_field(header[136:148], "a time") * 1_000_000_000,
            link=long_link if long_link is not None else text_field(header[157:257]),
            size=size,
        )
        if kind in ("char", "block"):
            entry.major = number_field(header[329:337], "a device number")
            entry.minor = number_field(header[337:345], "a device number")
        sparse = self._apply_pax(entry, pax)
        if kind == "file" and flag in (b"0", b"\0") and entry.name.endswith("/"):
            entry.kind = kind = "dir"  # how tools before POSIX wrote a folder
        stored = entry.size if kind == "file" else 0
        self._left, self._padding = stored, -stored % BLOCK
        self._extents = [(0, stored)]
        if kind == "file" and flag == b"S":
            self._old_gnu_sparse(header, entry)
        elif kind == "file" and sparse:
            self._pax_sparse(pax, entry)
        elif kind != "file":
            entry.size = 0
        self._check(entry)
        return entry

    def _apply_pax(self, entry: Entry, pax: Mapping[str, bytes]) -> bool:
        """Let the extended header overrule the fixed one. Returns whether it is a sparse file."""
        xattrs: dict[str, bytes] = {}
        sparse = False
        for key, value in pax.items():
            text = value.decode("utf-8", "surrogateescape")
            if key == "path":
                entry.name = text
            elif key == "linkpath":
                entry.link = text
            elif key == "size":
                entry.size = decimal(text, "a size")
            elif key == "uid":
                entry.uid = decimal(text, "an owner")
            elif key == "gid":
                entry.gid = decimal(text, "a group")
            elif key == "mtime":
                entry.mtime_ns = pax_time_ns(text)
            elif key.startswith("SCHILY.xattr."):
                xattrs[key.removeprefix("SCHILY.xattr.")] = value
            elif key.startswith("GNU.sparse."):
                sparse = True
        entry.xattrs = xattrs
        return sparse

    def _check(self, entry: Entry) -> None:
        self._count += 1
        if self._count > self._limits.entries:
            raise broken(f"more than {self._limits.entries} members")
        self._total += self._left
        if self._total > self._limits.content_bytes:
            raise broken(f"more than {self._limits.content_bytes} bytes of content")
        if "\0" in entry.name or "\0" in entry.link:
            raise broken("a name holds a NUL byte")
        if entry.xattrs and any("\0" in key for key in entry.xattrs):
            raise broken("an attribute's name holds a NUL byte")
        if not entry.name:
            raise broken("a member has no name")
        for what, value in (("an owner", entry.uid), ("a group", entry.gid)):
            if not 0 <= value < 0xFFFFFFFF:
                raise broken(f"{entry.name!r}: {what} is {value}")
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise broken(f"{entry.name!r}: no such device number {entry.major}:{entry.minor}")
        bound = _MAX_SECONDS * 1_000_000_000
        if not -bound // 8 <= entry.mtime_ns < bound:
            entry.mtime_ns = 0

    # -- sparse files ----------------------------------------------------------------------

    def _old_gnu_sparse(self, header: bytes, entry: Entry) -> None:
        pieces: list[tuple[int, int]] = []
        table, more = header[386:482], header[482]
        real = checked_size(number_field(header[483:495], "a sparse size"), "a sparse size")
        while True:
            for at in range(0, len(table) - len(table) % 24, 24):
                if not table[at : at + 24].strip(b"\0 "):
                    continue
                pieces.append(
                    (
                        number_field(table[at : at + 12], "a sparse offset"),
                        number_field(table[at + 12 : at + 24], "a sparse length"),
                    )
                )
            if len(pieces) > self._limits.sparse_extents:
                raise broken("a sparse file has too many pieces")
            if not more:
                break
            block = self._exactly(BLOCK)
            table, more = block[:504], block[504]
        self._set_extents(entry, pieces, real)

    def _pax_sparse(self, pax: Mapping[str, bytes], entry: Entry) -> None:
        def text(key: str) -> str:
            return pax.get(f"GNU.sparse.{key}", b"").decode("ascii", "replace")

        name = pax.get("GNU.sparse.name")
        if name is not None:
            entry.name = name.decode("utf-8", "surrogateescape")
        real = decimal(text("realsize") or text("size") or str(entry.size), "a sparse size")
        if text("major") == "1":
            numbers = self._sparse_map()
        elif text("map"):
            numbers = [decimal(word, "a sparse piece") for word in text("map").split(",")]
        else:
            return  # pax 0.0 repeats its keys, which no tool has written since 2004
        if len(numbers) % 2 or len(numbers) // 2 > self._limits.sparse_extents:
            raise broken("a sparse file's table is broken")
        self._set_extents(entry, list(zip(numbers[::2], numbers[1::2], strict=True)), real)

    def _sparse_map(self) -> list[int]:
        """The 1.0 table: decimal lines in whole blocks before the data."""
        lines: list[bytes] = []
        rest = b""
        wanted = 1
        while len(lines) < wanted:
            block = self._exactly(BLOCK)
            self._left -= BLOCK
            if self._left < 0:
                raise broken("a sparse file's table is broken")
            *complete, rest = (rest + block).split(b"\n")
            lines += complete
            if wanted == 1 and lines:
                count = decimal(lines[0].decode("ascii", "replace"), "a sparse table")
                if count > self._limits.sparse_extents:
                    raise broken("a sparse file has too many pieces")
                wanted = 1 + 2 * count
        return [
            decimal(line.decode("ascii", "replace"), "a sparse piece") for line in lines[1:wanted]
        ]

    def _set_extents(self, entry: Entry, pieces: list[tuple[int, int]], real: int) -> None:
        position = total = 0
        for offset, length in pieces:
            if offset < position or length < 0 or offset + length > real:
                raise broken(f"{entry.name!r}: the pieces of a sparse file overlap or overrun")
            position = offset + length
            total += length
        if total != self._left:
            raise broken(f"{entry.name!r}: a sparse file's pieces do not match its data")
        entry.extents = self._extents = [piece for piece in pieces if piece[1]]
        entry.size = real

    # -- bytes -----------------------------------------------------------------------------

    def _header(self) -> bytes | None:
        """The next header block, or None at the archive's end."""
        header = self._block()
        if header is None:
            return None
        if not header.strip(b"\0"):
            second = self._block()
            if second is not None and second.strip(b"\0"):
                raise broken("data follows a zero block")
            self._drain()
            return None
        stated = number_field(header[148:156], "a checksum")
        unsigned = sum(header) - sum(header[148:156]) + 8 * 32
        if stated != unsigned:
            blanked = header[:148] + header[156:]
            signed = unsigned - 256 * sum(1 for byte in blanked if byte > 127)
            if stated != signed:
                raise broken("a header's checksum is wrong")
        return header

    def _extended(self, size: int) -> bytes:
        if size > self._limits.extended_header_bytes:
            raise broken(f"an extended header of {size} bytes")
        data = self._exactly(size + -size % BLOCK)
        return data[:size]

    def _block(self) -> bytes | None:
        data = self._source.read(BLOCK)
        if not data:
            return None
        while len(data) < BLOCK:
            more = self._source.read(BLOCK - len(data))
            if not more:
                raise broken("it ends in the middle of a header")
            data += more
        return data

    def _exactly(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = self._source.read(min(size, 1 << 18))
            if not piece:
                raise broken("it ends too early")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self) -> None:
        rest = self._left + self._padding
        self._left = self._padding = 0
        while rest:
            piece = self._source.read(min(rest, 1 << 18))
            if not piece:
                raise broken("it ends in the middle of a file")
            rest -= len(piece)

    def _drain(self) -> None:
        """Read what pads the archive's end, so that its hash covers the whole stream."""
        drained = 0
        while piece := self._source.read(1 << 18):
            drained += len(piece)
            if drained > self._limits.trailing_bytes:
                raise broken("too much data after its end")

    _extents: list[tuple[int, int]] = []  # noqa: RUF012 - replaced per member, never changed
