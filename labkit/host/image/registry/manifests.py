"""What manifests and indexes say, checked before anything is fetched because of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import NotFound, SystemFailure, Unsupported
from labkit.base.ids import short_id
from labkit.host.image.model import check_config
from labkit.host.image.registry.client import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Manifest,
    RegistryClient,
)
from labkit.host.image.standins.machine import architecture

__all__ = [
    "Layer",
    "choose_platform",
    "contents",
    "describe",
    "document_of",
    "kind_of",
    "platform_manifest",
]

_MAX_CONFIG = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as the manifest and the config describe it together."""

    digest: str
    diff_id: str
    size: int
    media_type: str

    @property
    def shown(self) -> str:
        """Twelve digits of its digest, which name it in progress lines."""
        return short_id(self.digest)


def document_of(manifest: Manifest) -> Mapping[str, Any]:
    """The manifest as JSON. Raises SystemFailure."""
    try:
        document = json.loads(manifest.data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise SystemFailure(f"manifest {manifest.digest} is not JSON")
    return document


def kind_of(manifest: Manifest) -> str:
    """The media type; some registries send application/json, then the document says it."""
    if manifest.media_type in (*MANIFEST_TYPES, *INDEX_TYPES):
        return manifest.media_type
    document = document_of(manifest)
    stated = document.get("mediaType")
    if isinstance(stated, str) and stated:
        return stated
    if document.get("schemaVersion") == 1:
        raise Unsupported(
            "the image has a manifest of schema 1, which Docker has not read since version 26",
            hint="push it again with a current client",
        )
    return INDEX_TYPES[0] if "manifests" in document else MANIFEST_TYPES[0]


def choose_platform(entries: list[Any], wanted: str) -> Mapping[str, Any] | None:
    """The entry of an index for a platform: exact variant first, then any of that architecture."""
    parts = (wanted or f"linux/{architecture()}").split("/")
    system, machine = (parts[0], parts[1]) if len(parts) > 1 else ("linux", parts[0])
    variant = parts[2] if len(parts) > 2 else {"arm64": "v8", "arm": "v7"}.get(machine, "")
    best: Mapping[str, Any] | None = None
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(platform, dict):
            continue
        if (platform.get("os"), platform.get("architecture")) != (system, machine):
            continue
        if platform.get("variant", "") == variant:
            return entry  # type: ignore[no-any-return]
        best = best or entry
    return best


async def platform_manifest(client: RegistryClient, top: Manifest, platform: str) -> Manifest:
    """The image's manifest, chosen where `top` is an index. Raises NotFound as Docker does."""
    kind = kind_of(top)
    if kind in MANIFEST_TYPES:
        return Manifest(top.digest, kind, top.data)
    if kind not in INDEX_TYPES:
        raise Unsupported(f"the registry sent a {kind}, which is not an image")
    entries = document_of(top).get("manifests")
    entry = choose_platform(entries if isinstance(entries, list) else [], platform)
    if entry is None:
        wanted = platform or f"linux/{architecture()}"
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    digest = entry.get("digest")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise SystemFailure("the image index names a manifest by something that is no digest")
    chosen = await client.manifest(digest)
    return Manifest(chosen.digest, kind_of(chosen), chosen.data)


async def contents(client: RegistryClient, manifest: Manifest) -> tuple[bytes, list[Layer]]:
    """The config and the layers a manifest names, with everything checked that can be."""
    document = document_of(manifest)
    descriptors = document.get("layers")
    config = document.get("config")
    if not isinstance(config, dict) or not isinstance(descriptors, list):
        raise SystemFailure(f"manifest {manifest.digest} lacks its config or its layers")
    for descriptor in (config, *descriptors):
        if (
            not isinstance(descriptor, dict)
            or not _DIGEST.match(str(descriptor.get("digest")))
            or not isinstance(descriptor.get("size"), int)
            or descriptor["size"] < 0
        ):
            raise SystemFailure(f"manifest {manifest.digest} has a broken descriptor")
    if "image" not in str(config.get("mediaType", "image")):
        raise Unsupported(
            f"this is an artifact of type {config.get('mediaType')}, not an image that can run"
        )
    data = await client.small_blob(config["digest"], _MAX_CONFIG)
    try:
        diff_ids = check_config(json.loads(data))
    except ValueError as error:
        raise SystemFailure("the image config is not JSON") from error
    if len(diff_ids) != len(descriptors):
        raise SystemFailure(
            f"the config lists {len(diff_ids)} layers, the manifest {len(descriptors)}"
        )
    layers = [
        Layer(item["digest"], diff_id, item["size"], str(item.get("mediaType", "")))
        for item, diff_id in zip(descriptors, diff_ids, strict=True)
    ]
    return data, layers


async def describe(client: RegistryClient, reference: str) -> dict[str, Any]:
    """What the API tells of a remote image: its descriptor and the platforms it is there for."""
    top = await client.manifest(reference)
    kind = kind_of(top)
    document = document_of(top)
    if kind in INDEX_TYPES:
        entries = document.get("manifests")
        listed = entries if isinstance(entries, list) else []
        found = [item.get("platform") for item in listed if isinstance(item, dict)]
        platforms = [one for one in found if isinstance(one, dict)]
    else:
        data, _ = await contents(client, Manifest(top.digest, kind, top.data))
        config = json.loads(data)
        keys = ("architecture", "os", "os.version", "variant")
        platforms = [{key: config[key] for key in keys if config.get(key)}]
    descriptor = {"mediaType": kind, "digest": top.digest, "size": len(top.data)}
    return {"Descriptor": descriptor, "Platforms": platforms}
