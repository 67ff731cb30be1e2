"""Reading a manifest that somebody pushes: what it is, what it refers to, whom it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.daemon.registry_api.errors import RegistryError
from labkit.daemon.registry_api.names import check_digest

__all__ = ["EMPTY_TYPE", "INDEX", "MANIFEST_BYTES_MAX", "Document", "describe", "read_document"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGES = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
MANIFEST_BYTES_MAX = 4 << 20
"""The specification asks registries to take at least four megabytes."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index, checked. `blobs` and `manifests` must be in the repository."""

    media_type: str
    blobs: tuple[str, ...]
    manifests: tuple[str, ...]
    subject: str | None
    fields: Mapping[str, Any]


def read_document(data: bytes, content_type: str = "") -> Document:
    """Raises RegistryError MANIFEST_INVALID saying what is wrong."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise _invalid("the manifest is not JSON") from None
    if not isinstance(fields, dict):
        raise _invalid("the manifest is not a JSON object")
    if fields.get("schemaVersion") != 2 or isinstance(fields["schemaVersion"], bool):
        raise _invalid("schemaVersion must be 2")
    stated = fields.get("mediaType") or ""
    sent = content_type.partition(";")[0].strip()
    if stated and sent and sent != stated and sent in (*_IMAGES, *_INDEXES):
        raise _invalid(f"Content-Type is {sent}, but mediaType is {str(stated)[:100]}")
    kind = stated or (sent if sent in (*_IMAGES, *_INDEXES) else "")
    if not kind:
        kind = INDEX if "manifests" in fields else MANIFEST
    if not isinstance(kind, str) or kind not in (*_IMAGES, *_INDEXES):
        raise _invalid(f"unsupported media type {str(kind)[:100]}")
    subject = fields.get("subject")
    about = None if subject is None else _digest(subject, "subject")
    if kind in _INDEXES:
        if "layers" in fields or not isinstance(fields.get("manifests"), list):
            raise _invalid("an index has a list of manifests and no layers")
        children = tuple(_digest(item, "manifests") for item in fields["manifests"])
        return Document(kind, (), children, about, fields)
    if "manifests" in fields or not isinstance(fields.get("layers"), list):
        raise _invalid("an image manifest has a config and a list of layers")
    blobs = [_digest(fields.get("config"), "config")]
    for item in fields["layers"]:
        digest = _digest(item, "layers")
        # A layer that is fetched from elsewhere need not be here.
        if not item.get("urls"):
            blobs.append(digest)
    return Document(kind, tuple(dict.fromkeys(blobs)), (), about, fields)


def describe(data: bytes, digest: str) -> dict[str, Any]:
    """The descriptor of a manifest in a list of referrers (spec, "Listing Referrers")."""
    document = read_document(data)
    fields = document.fields
    kind = fields.get("artifactType")
    if not kind and document.media_type in _IMAGES:
        kind = fields["config"].get("mediaType")
    found: dict[str, Any] = {
        "mediaType": document.media_type,
        "digest": digest,
        "size": len(data),
    }
    if isinstance(kind, str) and kind:
        found["artifactType"] = kind
    if isinstance(fields.get("annotations"), dict):
        found["annotations"] = fields["annotations"]
    return found


def _invalid(why: str) -> RegistryError:
    return RegistryError("MANIFEST_INVALID", why)


def _digest(descriptor: Any, where: str) -> str:
    """The digest of a descriptor that has the three fields a descriptor must have."""
    if not isinstance(descriptor, dict):
        raise _invalid(f"{where}: a descriptor must be an object")
    size = descriptor.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _invalid(f"{where}: size must be a number of bytes")
    if not isinstance(descriptor.get("mediaType"), str):
        raise _invalid(f"{where}: mediaType is missing")
    try:
        return check_digest(str(descriptor.get("digest")))
    except RegistryError as error:
        raise _invalid(f"{where}: {error.message}") from None
