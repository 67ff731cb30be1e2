"""A tar reader for layers: streaming, strict, and bounded in what it will hold in memory.

It reads what image tools write (POSIX ustar and pax, GNU long names, base-256 numbers, GNU and pax
sparse files) and answers everything else with one sentence. Formats: POSIX.1-2001 pax(1), the GNU
tar manual's "Basic Tar Format", and `SCHILY.xattr.*` as used by GNU tar and the OCI tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from labkit.base.errors import InvalidParameter
from labkit.host.image.entry import Entry, Kind

__all__ = ["BLOCK", "ByteSource", "TarLimits", "TarReader"]

BLOCK: Final = 512
_MAX_INT: Final = (1 << 63) - 1
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


def _fail(reason: str) -> InvalidParameter:
    return InvalidParameter(f"cannot read the layer archive: {reason}")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes, what: str) -> int:
    """An octal number, or GNU's base-256 form when the first bit is set."""
    if field[:1] >= b"\x80":
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    digits = digits.split(b"\0", 1)[0].rstrip(b" ")
    if any(digit not in b"01234567" for digit in digits):
        raise _fail(f"{what} is not a number")
    return int(digits, 8)


def _size(value: int, what: str) -> int:
    if not 0 <= value <= _MAX_INT:
        raise _fail(f"{what} is {value}")
    return value


def _decimal(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise _fail(f"{what} is not a number")
    return _size(int(text), what)


def _seconds_ns(text: str) -> int:
    """A pax time such as `1700000000.25` or `-1.5` in nanoseconds, without floating point."""
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("-").partition(".")
    if not (whole or fraction) or not (whole + fraction).isascii():
        raise _fail("a time is not a number")
    if not (whole + fraction).isdecimal() or len(whole) > 20:
        raise _fail("a time is not a number")
    return sign * (int(whole or "0") * 1_000_000_000 + int((fraction + "0" * 9)[:9]))


def parse_pax(data: bytes) -> dict[str, bytes]:
    """Records `LENGTH KEY=VALUE\\n` of an extended header; later ones win."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 20)
        digits = data[position:blank] if blank > 0 else b""
        if not digits.isdigit():
            raise _fail("a pax record has no length")
        end = position + int(digits)
        record = data[blank + 1 : end]
        if end > len(data) or end <= blank or record[-1:] != b"\n":
            raise _fail("a pax record has the wrong length")
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not key:
            raise _fail("a pax record has no key")
        records[key.decode("utf-8", "surrogateescape")] = value
        position = end
    return records


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
                    raise _fail("it ends in the middle of a file")
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
                    raise _fail("it ends after an extended header")
                return None
            flag = header[156:157]
            size = _size(_number(header[124:136], "a size"), "a size")
            if flag == b"x":
                pax.update(parse_pax(self._extended(size)))
            elif flag == b"g":
                self._extended(size)  # global defaults: Docker ignores them as well
            elif flag == b"L":
                long_name = _text(self._extended(size))
            elif flag == b"K":
                long_link = _text(self._extended(size))
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
            raise _fail(f"unknown kind of member {flag!r}")
        name = _text(header[0:100])
        if header[257:263] == b"ustar\0" and header[345:346] != b"\0":
            name = f"{_text(header[345:500])}/{name}"
        name = long_name if long_name is not None else name
        entry = Entry(
            name=name,
            kind=kind,
            mode=_number(header[100:108], "a mode") & 0o7777,
            uid=_number(header[108:116], "an owner"),
            gid=_number(header[116:124], "a group"),
            mtime_ns=_number(header[136:148], "a time") * 1_000_000_000,
            link=long_link if long_link is not None else _text(header[157:257]),
            size=size,
        )
        if kind in ("char", "block"):
            entry.major = _number(header[329:337], "a device number")
            entry.minor = _number(header[337:345], "a device number")
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
                entry.size = _decimal(text, "a size")
            elif key == "uid":
                entry.uid = _decimal(text, "an owner")
            elif key == "gid":
                entry.gid = _decimal(text, "a group")
            elif key == "mtime":
                entry.mtime_ns = _seconds_ns(text)
            elif key.startswith("SCHILY.xattr."):
                xattrs[key.removeprefix("SCHILY.xattr.")] = value
            elif key.startswith("GNU.sparse."):
                sparse = True
        entry.xattrs = xattrs
        return sparse

    def _check(self, entry: Entry) -> None:
        self._count += 1
        if self._count > self._limits.entries:
            raise _fail(f"more than {self._limits.entries} members")
        self._total += self._left
        if self._total > self._limits.content_bytes:
            raise _fail(f"more than {self._limits.content_bytes} bytes of content")
        if "\0" in entry.name or "\0" in entry.link:
            raise _fail("a name holds a NUL byte")
        if not entry.name:
            raise _fail("a member has no name")
        for what, value in (("an owner", entry.uid), ("a group", entry.gid)):
            if not 0 <= value < 0xFFFFFFFF:
                raise _fail(f"{entry.name!r}: {what} is {value}")
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise _fail(f"{entry.name!r}: no such device number {entry.major}:{entry.minor}")
        bound = _MAX_SECONDS * 1_000_000_000
        if not -bound // 8 <= entry.mtime_ns < bound:
            entry.mtime_ns = 0

    # -- sparse files ----------------------------------------------------------------------

    def _old_gnu_sparse(self, header: bytes, entry: Entry) -> None:
        pieces: list[tuple[int, int]] = []
        table, more = header[386:482], header[482]
        real = _size(_number(header[483:495], "a sparse size"), "a sparse size")
        while True:
            for at in range(0, len(table) - len(table) % 24, 24):
                if not table[at : at + 24].strip(b"\0 "):
                    continue
                pieces.append(
                    (
                        _number(table[at : at + 12], "a sparse offset"),
                        _number(table[at + 12 : at + 24], "a sparse length"),
                    )
                )
            if len(pieces) > self._limits.sparse_extents:
                raise _fail("a sparse file has too many pieces")
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
        real = _decimal(text("realsize") or text("size") or str(entry.size), "a sparse size")
        if text("major") == "1":
            numbers = self._sparse_map()
        elif text("map"):
            numbers = [_decimal(word, "a sparse piece") for word in text("map").split(",")]
        else:
            return  # pax 0.0 repeats its keys, which no tool has written since 2004
        if len(numbers) % 2 or len(numbers) // 2 > self._limits.sparse_extents:
            raise _fail("a sparse file's table is broken")
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
                raise _fail("a sparse file's table is broken")
            *complete, rest = (rest + block).split(b"\n")
            lines += complete
            if wanted == 1 and lines:
                count = _decimal(lines[0].decode("ascii", "replace"), "a sparse table")
                if count > self._limits.sparse_extents:
                    raise _fail("a sparse file has too many pieces")
                wanted = 1 + 2 * count
        return [
            _decimal(line.decode("ascii", "replace"), "a sparse piece") for line in lines[1:wanted]
        ]

    def _set_extents(self, entry: Entry, pieces: list[tuple[int, int]], real: int) -> None:
        position = total = 0
        for offset, length in pieces:
            if offset < position or length < 0 or offset + length > real:
                raise _fail(f"{entry.name!r}: the pieces of a sparse file overlap or overrun")
            position = offset + length
            total += length
        if total != self._left:
            raise _fail(f"{entry.name!r}: a sparse file's pieces do not match its data")
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
                raise _fail("data follows a zero block")
            self._drain()
            return None
        stated = _number(header[148:156], "a checksum")
        blanked = header[:148] + b" " * 8 + header[156:]
        unsigned = sum(blanked)
        if stated != unsigned:
            signed = unsigned - 256 * sum(1 for byte in blanked if byte > 127)
            if stated != signed:
                raise _fail("a header's checksum is wrong")
        return header

    def _extended(self, size: int) -> bytes:
        if size > self._limits.extended_header_bytes:
            raise _fail(f"an extended header of {size} bytes")
        data = self._exactly(size + -size % BLOCK)
        return data[:size]

    def _block(self) -> bytes | None:
        data = self._source.read(BLOCK)
        if not data:
            return None
        while len(data) < BLOCK:
            more = self._source.read(BLOCK - len(data))
            if not more:
                raise _fail("it ends in the middle of a header")
            data += more
        return data

    def _exactly(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = self._source.read(min(size, 1 << 18))
            if not piece:
                raise _fail("it ends too early")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self) -> None:
        rest = self._left + self._padding
        self._left = self._padding = 0
        while rest:
            piece = self._source.read(min(rest, 1 << 18))
            if not piece:
                raise _fail("it ends in the middle of a file")
            rest -= len(piece)

    def _drain(self) -> None:
        """Read what pads the archive's end, so that its hash covers the whole stream."""
        drained = 0
        while piece := self._source.read(1 << 18):
            drained += len(piece)
            if drained > self._limits.trailing_bytes:
                raise _fail("too much data after its end")

    _extents: list[tuple[int, int]] = []  # noqa: RUF012 - replaced per member, never changed
