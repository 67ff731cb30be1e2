"""Blobs, manifests, tags and referrers of one registry folder. Synchronous; called in threads.

Only one process may serve a folder for writing. Whatever it has said is durable: content is synced
before its link is written, and links before the answer goes out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.daemon.registry_api.documents import Document, describe, read_document
from labkit.daemon.registry_api.errors import RegistryError
from labkit.daemon.registry_api.layout import Layout, make_durable, read_link, write_link
from labkit.daemon.registry_api.names import check_digest, check_tag, is_digest

__all__ = ["Storage", "page"]


def page(words: Sequence[str], last: str, limit: int) -> tuple[list[str], bool]:
    """At most `limit` of the sorted words that come after `last`, and whether more follow."""
    after = [word for word in words if word > last] if last else list(words)
    return after[:limit], len(after) > limit


class Storage:
    """One registry's content."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        # One writer at a time for what spans several files: a manifest, its tag, its referrers.
        self._lock = threading.Lock()

    # -- repositories --------------------------------------------------------------------------

    def require(self, name: str) -> None:
        """Raises RegistryError NAME_UNKNOWN when nothing was ever pushed there."""
        folder = self.layout.repository(name)
        if not (folder / "_manifests").is_dir() and not (folder / "_layers").is_dir():
            raise RegistryError("NAME_UNKNOWN", {"name": name})

    def repositories(self) -> list[str]:
        """Names of all repositories, sorted."""
        return list(self.layout.names())

    def tags(self, name: str) -> list[str]:
        """The repository's tags, sorted."""
        self.require(name)
        try:
            found = os.listdir(self.layout.tags(name))
        except FileNotFoundError:
            return []
        return sorted(tag for tag in found if self.layout.tag(name, tag).exists())

    # -- blobs ---------------------------------------------------------------------------------

    def blob(self, name: str, digest: str) -> Path:
        """The file of a blob of this repository. Raises RegistryError BLOB_UNKNOWN."""
        data = self.layout.data(digest)
        known = self.layout.layer(name, digest).exists()
        if not (known or self.layout.revision(name, digest).exists()) or not data.exists():
            raise RegistryError("BLOB_UNKNOWN", {"digest": digest})
        return data

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Let `name` have a blob that `source` has; says whether it did."""
        try:
            self.blob(source, digest)
        except RegistryError:
            return False
        write_link(self.layout.layer(name, digest), digest)
        return True

    def take_in(self, name: str, file: Path, digest: str) -> None:
        """Make a finished, synced upload a blob of the repository."""
        target = self.layout.data(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        make_durable(file, target)
        write_link(self.layout.layer(name, digest), digest)

    def remove_blob(self, name: str, digest: str) -> None:
        """Take the blob from this repository; `collect` frees what no repository has."""
        try:
            self.layout.layer(name, digest).unlink()
        except FileNotFoundError:
            raise RegistryError("BLOB_UNKNOWN", {"digest": digest}) from None

    def collect(self) -> list[str]:
        """Remove content that no repository links to; returns its digests.

        For a registry at rest: what is being pushed may not be linked yet.
        """
        wanted = {
            path.parent.name
            for path in self.layout.repositories.rglob("link")
            if path.parent.parent.name == "sha256"
        }
        removed = []
        for folder in sorted(self.layout.blobs.glob("??/*")):
            if folder.name not in wanted:
                shutil.rmtree(folder)
                removed.append(f"sha256:{folder.name}")
        return removed

    # -- manifests -----------------------------------------------------------------------------

    def resolve(self, name: str, reference: str) -> str:
        """The digest of a tag or digest. Raises RegistryError MANIFEST_UNKNOWN."""
        if is_digest(reference):
            digest: str | None = check_digest(reference)
            assert digest is not None
            known = self.layout.revision(name, digest).exists()
        else:
            digest = read_link(self.layout.tag(name, check_tag(reference)))
            known = digest is not None
        if digest is None or not known:
            self.require(name)
            detail = {"name": name, "reference": reference}
            raise RegistryError("MANIFEST_UNKNOWN", detail)
        return digest

    def manifest(self, name: str, reference: str) -> tuple[str, str, bytes]:
        """(digest, media type, bytes) of a tag or digest."""
        digest = self.resolve(name, reference)
        try:
            data = self.layout.data(digest).read_bytes()
        except FileNotFoundError:
            raise RegistryError("MANIFEST_UNKNOWN", {"name": name, "digest": digest}) from None
        return digest, read_document(data).media_type, data

    def put_manifest(
        self, name: str, reference: str, data: bytes, content_type: str
    ) -> tuple[str, str | None]:
        """Store a manifest under a tag or its digest; returns its digest and its subject's.

        Raises RegistryError MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN naming what is missing,
        DIGEST_INVALID.
        """
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if is_digest(reference) and check_digest(reference) != digest:
            raise RegistryError("DIGEST_INVALID", {"expected": reference, "found": digest})
        if not is_digest(reference):
            check_tag(reference)
        document = read_document(data, content_type)
        with self._lock:
            self._verify(name, document)
            self._keep(digest, data)
            write_link(self.layout.revision(name, digest), digest)
            if document.subject is not None:
                where = self.layout.referrers(name, document.subject)
                write_link(where / digest[7:] / "link", digest)
            if not is_digest(reference):
                write_link(self.layout.tag_history(name, reference, digest), digest)
                write_link(self.layout.tag(name, reference), digest)
        return digest, document.subject

    def _verify(self, name: str, document: Document) -> None:
        for digest in document.blobs:
            try:
                self.blob(name, digest)
            except RegistryError:
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", {"digest": digest}) from None
        for digest in document.manifests:
            if not self.layout.revision(name, digest).exists():
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", {"digest": digest})

    def _keep(self, digest: str, data: bytes) -> None:
        target = self.layout.data(digest)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{secrets.token_hex(8)}")
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        make_durable(beside, target)

    def remove_manifest(self, name: str, reference: str) -> None:
        """By digest: the manifest and every tag of it. By tag: that tag alone."""
        with self._lock:
            digest = self.resolve(name, reference)
            if not is_digest(reference):
                shutil.rmtree(self.layout.tags(name) / reference)
                return
            for tag in self.tags(name):
                if read_link(self.layout.tag(name, tag)) == digest:
                    shutil.rmtree(self.layout.tags(name) / tag)
            self._forget_referrer(name, digest)
            shutil.rmtree(self.layout.revision(name, digest).parent)

    def _forget_referrer(self, name: str, digest: str) -> None:
        try:
            subject = read_document(self.layout.data(digest).read_bytes()).subject
        except (FileNotFoundError, RegistryError):
            return
        if subject is not None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.layout.referrers(name, subject) / digest[7:])

    # -- referrers -----------------------------------------------------------------------------

    def referrers(self, name: str, subject: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests about `subject`, by digest.

        What a client listed under the fallback tag `sha256-HEX` before this registry kept
        referrers counts too (spec, "Backwards Compatibility").
        """
        found: dict[str, dict[str, Any]] = {}
        folder = self.layout.referrers(name, subject)
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        for hexadecimal in names:
            digest = f"sha256:{hexadecimal}"
            with contextlib.suppress(FileNotFoundError, RegistryError):
                found[digest] = describe(self.layout.data(digest).read_bytes(), digest)
        with contextlib.suppress(RegistryError):
            _, _, data = self.manifest(name, subject.replace(":", "-"))
            for item in read_document(data).fields.get("manifests", ()):
                found.setdefault(item["digest"], item)
        return [found[digest] for digest in sorted(found)]
