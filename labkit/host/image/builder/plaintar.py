"""An archive without its compression: gzip, bzip2, xz, zstd or none, told by its first bytes."""

from __future__ import annotations

from labkit.base.errors import InvalidParameter
from labkit.host.image.layers import decompressor
from labkit.host.image.tarread import ByteSource

__all__ = ["plain"]

_PIECE = 1 << 18


class _Headed:
    """A source whose first bytes were looked at already."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._source.read(size)


class _Unpacking:
    """bzip2 or xz as a byte source."""

    def __init__(self, source: ByteSource, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._inner = self._new()
        self._buffer = b""

    def _new(self) -> object:
        import bz2
        import lzma

        return bz2.BZ2Decompressor() if self._kind == "bz2" else lzma.LZMADecompressor()

    def read(self, size: int, /) -> bytes:
        while not self._buffer:
            data = self._source.read(_PIECE)
            if not data:
                return b""
            try:
                self._buffer = self._inner.decompress(data)  # type: ignore[attr-defined]
            except (OSError, EOFError, ValueError, Exception) as error:
                raise InvalidParameter(f"cannot read the archive: {error}") from error
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece


def plain(source: ByteSource) -> ByteSource:
    """`source` without its compression, whichever it is."""
    head = b""
    while len(head) < 6 and (piece := source.read(6 - len(head))):
        head += piece
    source = _Headed(head, source)
    if head.startswith(b"BZh"):
        return _Unpacking(source, "bz2")
    if head.startswith(b"\xfd7zXZ\0"):
        return _Unpacking(source, "xz")
    return decompressor(source, head)
