"""Take one layer into the store: its archive as a blob, its content unpacked."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Protocol

from labkit.host.image.index import LayerBlob
from labkit.host.image.layers import decompressor
from labkit.host.image.store import ImageStore

__all__ = ["GZIP_TYPE", "FileSource", "ingest", "ingest_tar", "layer_type"]

GZIP_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_ZSTD_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
_PLAIN_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CHUNK = 1 << 18


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class FileSource:
    """A descriptor as a byte source; the descriptor stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)


class _Headed:
    """A source whose first bytes were looked at already."""

    def __init__(self, head: bytes, source: _Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._source.read(size)


def layer_type(head: bytes) -> str:
    """The media type of a layer's archive, told by its first bytes."""
    if head.startswith(b"\x1f\x8b"):
        return GZIP_TYPE
    return _ZSTD_TYPE if head.startswith(b"\x28\xb5\x2f\xfd") else _PLAIN_TYPE


def ingest_tar(
    store: ImageStore, produce: Callable[[Callable[[bytes], object]], None]
) -> LayerBlob:
    """Store a layer that `produce` writes as an uncompressed tar; it is kept gzipped.

    Level 1: a lab makes layers while a student waits, and the disk has room.
    """
    writer = store.blobs.writer()
    deflate = zlib.compressobj(1, wbits=31)
    try:
        produce(lambda data: writer.write(deflate.compress(data)))
        writer.write(deflate.flush())
        digest = writer.commit()
    except BaseException:
        writer.abandon()
        raise
    return _unpacked(store, digest, GZIP_TYPE, writer.size, None)


def ingest(
    store: ImageStore, source: _Source, *, diff_id: str | None = None, keep: bool = False
) -> LayerBlob:
    """Store a layer's archive, compressed or not, and unpack it.

    `diff_id` is what it must hash to. An uncompressed archive is gzipped unless `keep`, which
    preserves the digest that a manifest states. Raises InvalidParameter, SystemFailure.
    """
    head = b""
    while len(head) < 4 and (piece := source.read(4 - len(head))):
        head += piece
    headed = _Headed(head, source)
    media_type = layer_type(head)
    if media_type == _PLAIN_TYPE and not keep:

        def produce(write: Callable[[bytes], object]) -> None:
            while data := headed.read(_CHUNK):
                write(data)

        blob = ingest_tar(store, produce)
        if diff_id is not None and blob.diff_id != diff_id:
            return _unpacked(store, blob.digest, media_type, blob.size, diff_id)
        return blob
    writer = store.blobs.writer()
    try:
        while data := headed.read(_CHUNK):
            writer.write(data)
        digest = writer.commit()
    except BaseException:
        writer.abandon()
        raise
    return _unpacked(store, digest, media_type, writer.size, diff_id)


def _unpacked(
    store: ImageStore, digest: str, media_type: str, size: int, diff_id: str | None
) -> LayerBlob:
    known = store.index.layer_by_blob(digest)
    if (
        known is not None
        and diff_id in (None, known.diff_id)
        and store.index.layer(known.diff_id) is not None
    ):
        return known
    fd = os.open(store.blobs.path(digest), os.O_RDONLY | os.O_CLOEXEC)
    try:
        row = store.layers.unpack(decompressor(FileSource(fd), os.pread(fd, 4, 0)), diff_id)
    finally:
        os.close(fd)
    blob = LayerBlob(row.diff_id, digest, media_type, size)
    store.index.add_layer_blob(blob)
    return blob
