"""Blobs by digest: written beside their place, verified, made durable, then renamed into it.

    ROOT/blobs/sha256/HEX        a finished blob, never changed again
    ROOT/blobs/ingest/NAME       one being written; a `sha256-HEX` may be resumed

A rename is the only way in, so whatever has a name is whole, at any kill -9.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from labkit.base.errors import NotFound, SystemFailure
from labkit.base.ids import new_id
from labkit.host.image.digests import digest_of, hex_of

__all__ = ["BlobStore", "BlobWriter"]

_RESUMABLE_SECONDS = 24 * 3600
_CHUNK = 1 << 20


class BlobWriter:
    """Collects one blob; `commit` gives it its name, `abandon` forgets it."""

    def __init__(self, store: BlobStore, path: Path, *, keep: bool = False) -> None:
        self._store = store
        self._path = path
        self._keep = keep
        self._hash = hashlib.sha256()
        self._file = open(path, "ab" if keep else "xb")  # noqa: SIM115 - closed by commit or abandon
        self.size = 0
        if keep and self._file.tell():
            with open(path, "rb") as earlier:
                while data := earlier.read(_CHUNK):
                    self._hash.update(data)
                    self.size += len(data)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return "sha256:" + self._hash.hexdigest()

    def restart(self) -> None:
        """Forget what was written, for a server that will not continue where it broke off."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def commit(self, expected: str | None = None) -> str:
        """Verify, make durable and name the blob; returns its digest.

        Raises SystemFailure when the content is not what `expected` promises; nothing is kept.
        """
        digest = self.digest
        if expected is not None and digest != expected:
            self._keep = False
            self.abandon()
            raise SystemFailure(
                f"content does not match digest: expected {expected}, got {digest}",
                hint="the data was damaged on its way; try again",
            )
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._store.adopt(self._path, digest)
        except OSError as error:
            self.abandon()
            raise SystemFailure(
                f"cannot store blob {digest}: {error.strerror}",
                hint="free some space, for example with docker system prune",
            ) from error
        return digest

    def abandon(self) -> None:
        """Drop what was written (a resumable download stays for the next try)."""
        with contextlib.suppress(OSError):
            self._file.close()
        if not self._keep:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def discard(self) -> None:
        """Drop what was written, a resumable download too: it must make room."""
        self._keep = False
        self.abandon()


class BlobStore:
    """The blobs of one root, and those of read-only roots that others share with it."""

    def __init__(self, root: Path, shared: Sequence[Path] = ()) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "blobs" / "ingest"
        self._roots = (self._blobs, *(folder / "blobs" / "sha256" for folder in shared))
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._ingest.mkdir(exist_ok=True)

    def find(self, digest: str) -> Path | None:
        """The file of a blob, or None."""
        name = hex_of(digest)
        for root in self._roots:
            path = root / name
            if path.exists():
                return path
        return None

    def path(self, digest: str) -> Path:
        """The file of a blob. Raises NotFound."""
        found = self.find(digest)
        if found is None:
            raise NotFound(f"blob {digest} is not in the store")
        return found

    def read(self, digest: str) -> bytes:
        """A small blob (config, manifest), verified on the way in."""
        data = self.path(digest).read_bytes()
        if digest_of(data) != digest:
            raise SystemFailure(
                f"blob {digest} is damaged on disk",
                hint="remove the image and pull it again",
            )
        return data

    def put(self, data: bytes) -> str:
        """Store `data`; returns its digest. Storing it again costs nothing."""
        digest = digest_of(data)
        if self.find(digest) is None:
            writer = self.writer()
            try:
                writer.write(data)
                writer.commit(digest)
            except BaseException:
                writer.abandon()
                raise
        return digest

    def writer(self) -> BlobWriter:
        """A writer for a blob whose digest is not known yet."""
        return BlobWriter(self, self._ingest / new_id())

    def resumable_writer(self, digest: str) -> BlobWriter:
        """A writer for a download: it continues what an earlier attempt left (`writer.size`)."""
        return BlobWriter(self, self._ingest / f"sha256-{hex_of(digest)}", keep=True)

    def adopt(self, path: Path, digest: str) -> None:
        """Rename a finished, synced file to its digest."""
        target = self._blobs / hex_of(digest)
        os.rename(path, target)
        _sync_folder(self._blobs)

    def remove(self, digest: str) -> int:
        """Remove a blob of this root; returns the bytes freed (0 when it was not there)."""
        path = self._blobs / hex_of(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def all(self) -> Iterator[str]:
        """The digests of this root's own blobs."""
        for name in sorted(os.listdir(self._blobs)):
            yield f"sha256:{name}"

    def sweep(self) -> None:
        """Drop what earlier processes left half written; recent downloads may be resumed."""
        oldest = time.time() - _RESUMABLE_SECONDS
        for entry in os.scandir(self._ingest):
            resumable = entry.name.startswith("sha256-")
            with contextlib.suppress(FileNotFoundError):
                if not resumable or entry.stat().st_mtime < oldest:
                    os.unlink(entry.path)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
