"""Where things lie below one folder: the tree that the reference registry keeps.

    docker/registry/v2/blobs/sha256/ab/abcd…/data                   content, once
    docker/registry/v2/repositories/NAME/_layers/sha256/HEX/link    "this repository has that blob"
    …/NAME/_manifests/revisions/sha256/HEX/link                     … that manifest
    …/NAME/_manifests/tags/TAG/current/link                         what the tag means now
    …/NAME/_manifests/tags/TAG/index/sha256/HEX/link                what it has meant
    …/NAME/_manifests/referrers/sha256/HEX/sha256/HEX/link          manifests about it (ours)
    …/NAME/_uploads/ID/data                                         a blob on its way in

A chapter looks into this tree, and a volume written by either registry can be served by the other.
A link holds a digest. Links and data are written beside their place, synced and renamed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Layout", "make_durable", "read_link", "write_link"]


class Layout:
    """Paths of one registry. Words must have passed names.py."""

    def __init__(self, root: Path) -> None:
        base = root / "docker" / "registry" / "v2"
        self.blobs = base / "blobs" / "sha256"
        self.repositories = base / "repositories"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.repositories.mkdir(parents=True, exist_ok=True)

    def data(self, digest: str) -> Path:
        name = digest[7:]
        return self.blobs / name[:2] / name / "data"

    def repository(self, name: str) -> Path:
        return self.repositories / name

    def layer(self, name: str, digest: str) -> Path:
        return self.repositories / name / "_layers" / "sha256" / digest[7:] / "link"

    def revisions(self, name: str) -> Path:
        return self.repositories / name / "_manifests" / "revisions" / "sha256"

    def revision(self, name: str, digest: str) -> Path:
        return self.revisions(name) / digest[7:] / "link"

    def tags(self, name: str) -> Path:
        return self.repositories / name / "_manifests" / "tags"

    def tag(self, name: str, tag: str) -> Path:
        return self.tags(name) / tag / "current" / "link"

    def tag_history(self, name: str, tag: str, digest: str) -> Path:
        return self.tags(name) / tag / "index" / "sha256" / digest[7:] / "link"

    def referrers(self, name: str, subject: str) -> Path:
        return (
            self.repositories
            / name
            / "_manifests"
            / "referrers"
            / "sha256"
            / subject[7:]
            / "sha256"
        )

    def uploads(self, name: str) -> Path:
        return self.repositories / name / "_uploads"

    def names(self) -> Iterator[str]:
        """All repositories that hold a manifest or a layer, in lexical order."""
        found = [
            os.path.relpath(folder, self.repositories)
            for folder, below, _ in os.walk(self.repositories, topdown=True)
            if _is_repository(below)
        ]
        yield from sorted(found)


def _is_repository(below: list[str]) -> bool:
    """Whether a folder with these folders in it is one; `_…` is never walked into."""
    marks = {name for name in below if name.startswith("_")}
    below[:] = [name for name in below if name not in marks]
    return bool(marks & {"_manifests", "_layers"})


def read_link(path: Path) -> str | None:
    """The digest a link holds; None when it is not there."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_link(path: Path, digest: str) -> None:
    """Make `path` hold `digest`, durably and at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{secrets.token_hex(8)}")
    with open(beside, "x") as file:
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())
    make_durable(beside, path)


def make_durable(beside: Path, path: Path) -> None:
    """Rename a synced file to its place and sync the folder."""
    os.rename(beside, path)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
