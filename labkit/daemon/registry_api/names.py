"""What may be a repository, a tag, a digest, an upload (spec, "Pulling manifests").

Every word of a URL that becomes part of a path on disk passes through here first.
"""

from __future__ import annotations

import re

from labkit.daemon.registry_api.errors import RegistryError

__all__ = ["check_digest", "check_name", "check_tag", "check_upload", "is_digest"]

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_ALGORITHM = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+\Z")
_UPLOAD = re.compile(r"[0-9a-f]{32}\Z")
_NAME_CHARS_MAX = 255


def check_name(name: str) -> str:
    """Raises RegistryError NAME_INVALID."""
    if len(name) > _NAME_CHARS_MAX or not _NAME.match(name):
        raise RegistryError("NAME_INVALID", {"name": name[:_NAME_CHARS_MAX]})
    return name


def is_digest(reference: str) -> bool:
    """Whether a reference is meant as a digest: tags have no colon."""
    return ":" in reference


def check_digest(digest: str) -> str:
    """Raises RegistryError DIGEST_INVALID, also for algorithms this registry does not keep."""
    if _DIGEST.match(digest):
        return digest
    if _ALGORITHM.match(digest) and not digest.startswith("sha256:"):
        algorithm = digest.partition(":")[0]
        message = f"unsupported digest algorithm {algorithm[:32]}"
        raise RegistryError("DIGEST_INVALID", message=message)
    raise RegistryError("DIGEST_INVALID", message="invalid checksum digest format")


def check_tag(tag: str) -> str:
    """Raises RegistryError TAG_INVALID."""
    if not _TAG.match(tag):
        raise RegistryError("TAG_INVALID", {"tag": tag[:128]}, message="invalid tag name")
    return tag


def check_upload(upload: str) -> str:
    """Raises RegistryError BLOB_UPLOAD_UNKNOWN: what we did not name cannot exist."""
    if not _UPLOAD.match(upload):
        raise RegistryError("BLOB_UPLOAD_UNKNOWN")
    return upload
