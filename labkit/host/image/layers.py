"""Unpacked layers: ROOT/overlay2/NAME/diff, as Docker's overlay2 driver lays them out.

NAME is the layer's diff-id, so the folder's name says what its content must hash to, and a layer
that two images share is unpacked once. A folder is filled under a temporary name and renamed; a
layer that has no row in the index is a leftover and is removed at the next start.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.base.ids import new_id
from labkit.host.image.beneath import open_directory, remove_tree
from labkit.host.image.digests import hex_of
from labkit.host.image.index import Index, LayerRow

if TYPE_CHECKING:
    from labkit.host.image.tarread import TarLimits

__all__ = ["LayerStore", "decompressor", "media_compression"]

REMOVING = "-removing"
_TEMPORARY = ".tmp-"


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Inflate:
    """Gzip, one or several members, as a byte source."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(wbits=31)
        self._input = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            if not self._input:
                self._input = self._source.read(1 << 18)
                if not self._input:
                    if not self._inflater.eof:
                        raise InvalidParameter("cannot read the layer: the gzip stream is cut off")
                    self._ended = True
                    break
            if self._inflater.eof:
                self._inflater = zlib.decompressobj(wbits=31)
            try:
                data = self._inflater.decompress(self._input, size)
            except zlib.error as error:
                raise InvalidParameter(f"cannot read the layer: {error}") from error
            # What was not taken in: a limit was reached, or the next member follows.
            self._input = self._inflater.unconsumed_tail or self._inflater.unused_data
            if data:
                return data
        return b""


class _Unzstd:
    """zstd whose complaints are ours."""

    def __init__(self, source: _Source, error: type[Exception]) -> None:
        self._source = source
        self._error = error

    def read(self, size: int, /) -> bytes:
        try:
            return self._source.read(size)
        except self._error as error:
            raise InvalidParameter(f"cannot read the layer: {error}") from error


def media_compression(media_type: str) -> str:
    """`gzip`, `zstd` or `` from a layer's media type."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    return "zstd" if media_type.endswith(("+zstd", ".zstd")) else ""


def decompressor(source: _Source, head: bytes) -> _Source:
    """The uncompressed form of `source`, told by the first bytes rather than by a label."""
    if head.startswith(b"\x1f\x8b"):
        return _Inflate(source)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            import zstandard
        except ImportError:
            raise InvalidParameter(
                "cannot read the layer: it is compressed with zstd",
                hint="pip install zstandard, then try again",
            ) from None
        reader: _Source = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            cast("IO[bytes]", source),
            read_across_frames=True,
        )
        return _Unzstd(reader, zstandard.ZstdError)
    return source


class _Hashing:
    """A byte source that hashes what passes, in whole blocks so that tar headers cost little."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        if self._at >= len(self._buffer):
            self._buffer = self._source.read(1 << 18)
            self._at = 0
            self._hash.update(self._buffer)
        piece = self._buffer[self._at : self._at + size]
        self._at += len(piece)
        return piece

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class LayerStore:
    """The unpacked layers of one root and of the roots shared with it."""

    def __init__(self, root: Path, index: Index) -> None:
        self.folder = root / "overlay2"
        self.folder.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._index = index
        self._busy: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._doomed: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reaper: threading.Thread | None = None

    def path(self, diff_id: str) -> Path | None:
        """The folder with a layer's content, or None while it is not unpacked."""
        row = self._index.layer(diff_id)
        if row is None:
            return None
        base = Path(row.root) / "overlay2" if row.root else self.folder
        return base / hex_of(diff_id) / "diff"

    def unpack(
        self,
        source: _Source,
        diff_id: str | None,
        *,
        limits: TarLimits | None = None,
    ) -> LayerRow:
        """Unpack an uncompressed tar stream; `diff_id` is what it must hash to (None: find out).

        Returns at once when the layer is there already (the stream is then not read).
        Raises InvalidParameter for a hostile or broken archive; nothing is left behind.
        """
        if diff_id is None:
            return self._unpack(source, None, limits)
        with self._guard:
            lock = self._busy.setdefault(diff_id, threading.Lock())
        with lock:
            row = self._index.layer(diff_id)
            return row if row is not None else self._unpack(source, diff_id, limits)

    def _unpack(self, source: _Source, diff_id: str | None, limits: TarLimits | None) -> LayerRow:
        from labkit.host.image.apply import LayerApplier
        from labkit.host.image.tarread import TarReader

        name = _TEMPORARY + new_id()
        temporary = self.folder / name
        (temporary / "diff").mkdir(parents=True)
        hashing = _Hashing(source)
        try:
            fd = open_directory(temporary / "diff")
            try:
                os.fchmod(fd, 0o755)
                with LayerApplier(fd) as applier:
                    applied = applier.apply(TarReader(hashing, limits))
            finally:
                os.close(fd)
            if diff_id is not None and hashing.digest != diff_id:
                raise SystemFailure(
                    f"layer does not match its diff-id: expected {diff_id}, got {hashing.digest}",
                    hint="the image is damaged or its config lies; pull it again",
                )
            if applied.refused:
                _write_json(temporary / "refused.json", applied.refused)
            return self._publish(temporary, LayerRow(hashing.digest, applied.size, ""))
        except BaseException:
            self._discard(name)
            raise

    def _publish(self, temporary: Path, row: LayerRow) -> LayerRow:
        target = self.folder / hex_of(row.diff_id)
        with self._guard:
            present = self._index.layer(row.diff_id)
            if present is not None:
                self._discard(temporary.name)
                return present
            if target.exists():  # a leftover without a row: never to be trusted
                self._discard(target.name)
            os.rename(temporary, target)
            self._index.add_layer(row)
        return row

    def remove(self, diff_id: str) -> int:
        """Forget a layer and remove its folder; returns the bytes of content freed."""
        row = self._index.layer(diff_id)
        if row is None:
            return 0
        self._index.remove_layer(diff_id)
        if row.root:
            return 0
        self._discard(hex_of(diff_id))
        return row.size

    def _discard(self, name: str) -> None:
        """Remove a folder: renamed first, so that a kill leaves a leftover, not half a layer."""
        fd = open_directory(self.folder)
        try:
            doomed = name
            if not name.startswith(_TEMPORARY):
                doomed = name + REMOVING
                remove_tree(doomed, dir_fd=fd)
                os.rename(name, doomed, src_dir_fd=fd, dst_dir_fd=fd)
            remove_tree(doomed, dir_fd=fd)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)

    def discard_later(self, name: str) -> None:
        """Make a folder disappear at once and remove its content in the background."""
        doomed = f"{_TEMPORARY}{new_id()}{REMOVING}"
        try:
            os.rename(self.folder / name, self.folder / doomed)
        except FileNotFoundError:
            return
        self._doomed.put(doomed)
        with self._guard:
            if self._reaper is None:
                self._reaper = threading.Thread(
                    target=self._reap, name="labkit-layer-reaper", daemon=True
                )
                self._reaper.start()

    def _reap(self) -> None:
        while True:
            name = self._doomed.get()
            try:
                if name is None:
                    return
                self._discard(name)
            except OSError:
                pass  # it stays under a temporary name, and the next start tries again

    def drain(self) -> None:
        """Wait until everything discarded in the background is gone, and stop doing so."""
        with self._guard:
            reaper, self._reaper = self._reaper, None
        if reaper is not None:
            self._doomed.put(None)
            reaper.join()

    def sweep(self, keep: Callable[[str], bool]) -> None:
        """Remove leftovers: whatever is temporary, being removed, or unknown to `keep`."""
        for name in os.listdir(self.folder):
            if name.startswith(_TEMPORARY) or name.endswith(REMOVING):
                fd = open_directory(self.folder)
                try:
                    remove_tree(name, dir_fd=fd)
                finally:
                    os.close(fd)
            elif not keep(name):
                self._discard(name)

    def discard_folder(self, name: str) -> None:
        """Remove one folder below overlay2 by its name."""
        self._discard(name)

    def temporary_folder(self) -> Path:
        """A fresh folder below overlay2 that a crash will not leave for ever."""
        path = self.folder / (_TEMPORARY + new_id())
        path.mkdir(mode=0o710)
        return path


def stack_size(index: Index, diff_ids: Sequence[str]) -> int:
    """Bytes of content in a stack of layers, each counted as often as it is stacked."""
    rows = (index.layer(diff_id) for diff_id in diff_ids)
    return sum(row.size for row in rows if row is not None)


def _write_json(path: Path, value: Any) -> None:
    file: IO[str]
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(value, file, sort_keys=True)
