"""A tar writer whose output depends on nothing but the tree: same tree, same digest.

Plain ustar headers where they suffice, one pax header with sorted keys where they do not (long
names, large numbers, fractions of a second, extended attributes). No user names, no padding beyond
the two closing blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from labkit.host.image.entry import Entry
from labkit.host.image.tarread import BLOCK

__all__ = ["TarWriter", "header_bytes"]

_FLAGS = {
    "file": b"0",
    "link": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "dir": b"5",
    "fifo": b"6",
}
_ZEROS = bytes(1 << 16)


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _fits(value: int, width: int) -> bool:
    return 0 <= value < 1 << (3 * (width - 1))


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Name and prefix fields for `name`, or None when it does not fit them."""
    if len(name) <= 100:
        return name, b""
    cut = name.rfind(b"/", 0, 156)
    if cut <= 0 or not 0 < len(name) - cut - 1 <= 100:
        return None
    return name[cut + 1 :], name[:cut]


def _pax_record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _block(name: bytes, prefix: bytes, flag: bytes, entry: Entry, link: bytes, size: int) -> bytes:
    def number(value: int, width: int) -> bytes:
        return _octal(value if _fits(value, width) else 0, width)

    seconds = entry.mtime_ns // 1_000_000_000
    parts = [
        name[:100].ljust(100, b"\0"),
        number(entry.mode & 0o7777, 8),
        number(entry.uid, 8),
        number(entry.gid, 8),
        number(size, 12),
        number(seconds, 12),
        b" " * 8,
        flag,
        link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        number(entry.major, 8),
        number(entry.minor, 8),
        prefix.ljust(155, b"\0"),
        bytes(12),
    ]
    block = b"".join(parts)
    assert len(block) == BLOCK
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def header_bytes(entry: Entry) -> bytes:
    """The header block or blocks of one member."""
    name = entry.name.encode("utf-8", "surrogateescape")
    if entry.kind == "dir" and not name.endswith(b"/"):
        name += b"/"
    link = entry.link.encode("utf-8", "surrogateescape")
    size = entry.size if entry.kind == "file" else 0
    records: dict[str, bytes] = {}
    fields = _split(name)
    # A name that is not UTF-8 stays in the fixed field where it fits; pax would call it UTF-8.
    if fields is None:
        records["path"] = name
        fields = (name[:100], b"")
    if len(link) > 100:
        records["linkpath"] = link
    for key, number, width in (("uid", entry.uid, 8), ("gid", entry.gid, 8), ("size", size, 12)):
        if not _fits(number, width):
            records[key] = str(number).encode()
    seconds, fraction = divmod(entry.mtime_ns, 1_000_000_000)
    if fraction or not _fits(seconds, 12):
        records["mtime"] = _pax_time(entry.mtime_ns)
    for key, value in entry.xattrs.items():
        records[f"SCHILY.xattr.{key}"] = value
    flag = _FLAGS[entry.kind]
    block = _block(fields[0], fields[1], flag, entry, link, size)
    if not records:
        return block
    body = b"".join(_pax_record(key, records[key]) for key in sorted(records))
    extended = _block(
        b"PaxHeaders.0/" + name.rstrip(b"/")[-80:], b"", b"x", Entry("", mode=0o644), b"", len(body)
    )
    return extended + body + bytes(-len(body) % BLOCK) + block


def _pax_time(nanoseconds: int) -> bytes:
    sign = "-" if nanoseconds < 0 else ""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{sign}{seconds}.{fraction:09d}".rstrip("0").rstrip(".").encode()


class TarWriter:
    """Writes members through `write`, which takes bytes and keeps or hashes them."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def add(self, entry: Entry, content: Iterable[tuple[int, bytes]] = ()) -> None:
        """Write one member. `content` gives (offset, bytes) in order; holes become zeros."""
        self._write(header_bytes(entry))
        if entry.kind != "file":
            return
        position = 0
        for offset, data in content:
            assert offset >= position
            self._zeros(offset - position)
            self._write(data)
            position = offset + len(data)
        assert position <= entry.size, f"{entry.name} grew while it was read"
        self._zeros(entry.size - position)
        self._zeros(-entry.size % BLOCK)

    def close(self) -> None:
        """Write the two zero blocks that end an archive."""
        self._write(bytes(2 * BLOCK))

    def _zeros(self, count: int) -> None:
        while count:
            piece = min(count, len(_ZEROS))
            self._write(_ZEROS[:piece])
            count -= piece
