"""Blobs on their way in: one file each, appended to in order, named by its digest at the end.

How far an upload came is the length of its file, so it survives a restart; the hash is then
computed again from what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.daemon.registry_api.errors import RegistryError
from labkit.daemon.registry_api.names import check_upload
from labkit.daemon.registry_api.storage import Storage

__all__ = ["Upload", "Uploads"]

_STALE_SECONDS = 7 * 24 * 3600
_BATCH = 1 << 20
_CHUNK = 1 << 20


@dataclass(slots=True)
class Upload:
    """One upload of one repository. `size` is what has arrived."""

    id: str
    name: str
    folder: Path
    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_over: bool = False

    @property
    def file(self) -> Path:
        return self.folder / "data"

    @property
    def range(self) -> str:
        """How far it came, for a Range header: both ends count, so nothing is `0-0` too."""
        return f"0-{max(self.size - 1, 0)}"

    async def append(self, body: AsyncIterator[bytes]) -> None:
        """Add what arrives; what came before a broken connection stays."""
        batch = bytearray()
        fd = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            async for piece in body:
                batch += piece
                if len(batch) >= _BATCH:
                    await asyncio.to_thread(self._write, fd, bytes(batch))
                    batch.clear()
        finally:
            try:
                if batch:
                    await asyncio.shield(asyncio.to_thread(self._write, fd, bytes(batch)))
            finally:
                os.close(fd)

    def _write(self, fd: int, data: bytes) -> None:
        before = self.size
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            os.ftruncate(fd, before)
            raise
        self.hash.update(data)
        self.size += len(data)

    def seal(self, digest: str, storage: Storage) -> None:
        """Check, sync, and make it a blob. Raises RegistryError DIGEST_INVALID; it is gone then."""
        found = "sha256:" + self.hash.hexdigest()
        try:
            if found != digest:
                raise RegistryError("DIGEST_INVALID", {"expected": digest, "found": found})
            fd = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            storage.take_in(self.name, self.file, digest)
        finally:
            self.is_over = True
            shutil.rmtree(self.folder, ignore_errors=True)


class Uploads:
    """The uploads of one registry."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[tuple[str, str], Upload] = {}

    def begin(self, name: str) -> Upload:
        """A new, empty upload."""
        upload = Upload(
            new := secrets.token_hex(16), name, self._storage.layout.uploads(name) / new
        )
        upload.folder.mkdir(parents=True)
        upload.file.touch()
        self._known[name, upload.id] = upload
        return upload

    def find(self, name: str, identifier: str) -> Upload:
        """An upload, also one that an earlier process began.

        Raises RegistryError BLOB_UPLOAD_UNKNOWN.
        """
        check_upload(identifier)
        upload = self._known.get((name, identifier))
        if upload is None:
            upload = Upload(identifier, name, self._storage.layout.uploads(name) / identifier)
            try:
                with open(upload.file, "rb") as file:
                    while data := file.read(_CHUNK):
                        upload.hash.update(data)
                        upload.size += len(data)
            except (FileNotFoundError, NotADirectoryError):
                raise RegistryError("BLOB_UPLOAD_UNKNOWN") from None
            upload = self._known.setdefault((name, identifier), upload)
        return upload

    @contextlib.asynccontextmanager
    async def held(self, name: str, identifier: str) -> AsyncIterator[Upload]:
        """The upload, for one request at a time."""
        upload = await asyncio.to_thread(self.find, name, identifier)
        async with upload.lock:
            if upload.is_over:
                raise RegistryError("BLOB_UPLOAD_UNKNOWN")
            yield upload

    def cancel(self, upload: Upload) -> None:
        """Forget it and what has arrived."""
        upload.is_over = True
        self._known.pop((upload.name, upload.id), None)
        shutil.rmtree(upload.folder, ignore_errors=True)

    async def seal(self, upload: Upload, digest: str) -> None:
        """Make it a blob; see Upload.seal."""
        try:
            await asyncio.to_thread(upload.seal, digest, self._storage)
        finally:
            self._known.pop((upload.name, upload.id), None)

    def sweep(self) -> None:
        """Drop uploads that nobody has continued for a week."""
        oldest = time.time() - _STALE_SECONDS
        for data in self._storage.layout.repositories.rglob("_uploads/*/data"):
            with contextlib.suppress(FileNotFoundError):
                if data.stat().st_mtime < oldest:
                    shutil.rmtree(data.parent, ignore_errors=True)
