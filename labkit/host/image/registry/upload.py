"""Push an image: layers the registry lacks, its config, its manifest, in Docker's words."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import InvalidParameter, LabkitError, NotFound, SystemFailure, Unavailable
from labkit.base.ids import short_id
from labkit.host.image.blobs import BlobStore
from labkit.host.image.digests import canonical_json
from labkit.host.image.model import Image
from labkit.host.image.reference import Reference, parse
from labkit.host.image.registry.client import RegistryClient
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.store import ImageStore

__all__ = ["DOCKER_TYPES", "OCI_TYPES", "ManifestTypes", "manifest_of", "push"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CHUNK = 1 << 19
_EVERY_SECONDS = 0.1

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ManifestTypes:
    """Media types of a manifest and of what it names."""

    manifest: str
    config: str
    layer: str


DOCKER_TYPES = ManifestTypes(_MANIFEST, _CONFIG, _LAYER)
OCI_TYPES = ManifestTypes(
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size: int
    shown: str
    """Twelve digits of the diff-id, which is what Docker shows for a layer on its way out."""


def manifest_of(
    store: ImageStore, image: Image, *, types: ManifestTypes = DOCKER_TYPES
) -> tuple[str, bytes]:
    """(media type, bytes) of the image's manifest: the one it came with, else a new one.

    A new one is of Docker's types, as Docker pushes it, or of `types`. Raises SystemFailure when a
    layer's archive is not in the store any more.
    """
    for digest, role, media_type in store.index.image_blobs(image.id):
        if role == "manifest" and store.blobs.find(digest) is not None:
            data = store.blobs.read(digest)
            wanted = [item["digest"] for item in json.loads(data).get("layers", [])]
            if all(store.blobs.find(layer) is not None for layer in wanted):
                return media_type, data
    layers = []
    for diff_id in image.diff_ids:
        blob = next(
            (one for one in store.index.layer_blobs(diff_id) if store.blobs.find(one.digest)), None
        )
        if blob is None:
            raise SystemFailure(f"the archive of layer {diff_id} is not in the store")
        layers.append({"mediaType": types.layer, "size": blob.size, "digest": blob.digest})
    config_size = store.blobs.path(image.id).stat().st_size
    return types.manifest, canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": types.manifest,
            "config": {"mediaType": types.config, "size": config_size, "digest": image.id},
            "layers": layers,
        }
    )


async def push(
    store: ImageStore, reference: str, *, options: RegistryOptions | None = None
) -> AsyncIterator[Line]:
    """Push a tag, or all tags of a repository where none is given, yielding Docker's lines.

    What is wrong comes after the first line, as with Docker.

    Raises InvalidParameter for a digest, NotFound (`An image does not exist locally with the
    tag: x`), Unauthorized, Forbidden, Unavailable.
    """
    options = options or RegistryOptions()
    parsed = parse(reference)
    tags = [parsed.tag] if parsed.tag else store.index.tags_in(parsed.name)
    if parsed.digest:
        raise InvalidParameter("cannot push a digest reference", hint="push it by a tag")
    images = [
        (parsed.with_tag(tag), image_id)
        for tag in tags
        if (image_id := store.index.tag(parsed.name, tag)) is not None
    ]
    yield {"status": f"The push refers to repository [{parsed.name}]"}
    if not images:
        raise NotFound(
            f"An image does not exist locally with the tag: {parsed.familiar_name}",
            hint=f"docker tag IMAGE {parsed.familiar} names one",
        )
    async with RegistryClient(parsed, options, is_push=True) as client:
        for tagged, image_id in images:
            async for line in _push_one(store, client, tagged, store.get(image_id), options):
                yield line


async def _push_one(
    store: ImageStore,
    client: RegistryClient,
    reference: Reference,
    image: Image,
    options: RegistryOptions,
) -> AsyncIterator[Line]:
    media_type, manifest = await asyncio.to_thread(manifest_of, store, image)
    document = json.loads(manifest)
    layers = [
        _Blob(item["digest"], item["size"], short_id(diff_id))
        for item, diff_id in zip(document["layers"], image.diff_ids, strict=True)
    ]
    distinct = list({layer.digest: layer for layer in reversed(layers)}.values())
    for layer in distinct:
        yield _line(layer, "Preparing")
    for layer in distinct[options.parallel_uploads :]:
        yield _line(layer, "Waiting")
    config = document["config"]
    digests = [image.id, *(layer.digest for layer in layers)]
    with store.lease(*digests):
        sender = _Sender(store, client, reference, options)
        async for line in sender.run(distinct):
            yield line
        await sender.blob(_Blob(config["digest"], config["size"], ""))
        digest = await _put_manifest(client, reference, media_type, manifest)
    store.index.set_digest(reference.name, digest, image.id)
    size = len(manifest)
    yield {"status": f"{reference.tag}: digest: {digest} size: {size}"}
    yield {
        "progressDetail": {},
        "aux": {"Tag": reference.tag, "Digest": digest, "Size": size},
    }


async def _put_manifest(
    client: RegistryClient, reference: Reference, media_type: str, manifest: bytes
) -> str:
    from labkit.host.image.digests import digest_of

    async with client.request(
        "PUT",
        f"manifests/{reference.tag}",
        actions="pull,push",
        headers={"Content-Type": media_type},
        data=io.BytesIO(manifest),
    ) as response:
        if response.status not in (200, 201):
            raise await client.failure(response, f"manifest for {reference.familiar}")
    return digest_of(manifest)


class _Sender:
    """Sends blobs the registry does not have, several at once."""

    def __init__(
        self,
        store: ImageStore,
        client: RegistryClient,
        reference: Reference,
        options: RegistryOptions,
    ) -> None:
        self._store = store
        self._client = client
        self._reference = reference
        self._options = options
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._slots = asyncio.Semaphore(options.parallel_uploads)

    async def run(self, layers: list[_Blob]) -> AsyncIterator[Line]:
        """Send all layers; the first failure stops the others and is raised."""
        tasks = [asyncio.create_task(self._layer(layer)) for layer in layers]
        gathered = asyncio.gather(*tasks)
        gathered.add_done_callback(lambda _: self._lines.put_nowait(None))
        try:
            while (line := await self._lines.get()) is not None:
                yield line
            await gathered
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, gathered, return_exceptions=True)

    async def _layer(self, layer: _Blob) -> None:
        async with self._slots:
            word = await self.blob(layer)
        self._lines.put_nowait(_line(layer, word))

    async def blob(self, blob: _Blob) -> str:
        """Bring one blob there; returns Docker's word for how."""
        async with self._client.request(
            "HEAD", f"blobs/{blob.digest}", actions="pull,push"
        ) as response:
            if response.status == 200:
                return "Layer already exists"
        pause = self._options.pause_seconds
        for attempt in range(1, self._options.attempts + 1):
            try:
                return await self._upload(blob)
            except Unavailable:
                if attempt == self._options.attempts:
                    raise
                whole = max(1, round(pause))
                words = f"Retrying in {whole} second{'' if whole == 1 else 's'}"
                self._lines.put_nowait(_line(blob, words))
                await asyncio.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")

    async def _upload(self, blob: _Blob) -> str:
        source = self._mount_source(blob.digest)
        params = {"mount": blob.digest, "from": source} if source else {}
        async with self._client.request(
            "POST", "blobs/uploads/", actions="pull,push", params=params, also_pull=source
        ) as response:
            if source and response.status == 201:
                return f"Mounted from {source}"
            if response.status != 202:
                raise await self._refusal(response)
            location = self._client.absolute(response.headers.get("Location", ""))
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(blob.size),
        }
        separator = "&" if "?" in location else "?"
        async with self._client.request(
            "PUT",
            f"{location}{separator}digest={blob.digest.replace(':', '%3A')}",
            actions="pull,push",
            headers=headers,
            data=self._body(blob),
            replay=False,
        ) as response:
            if response.status != 201:
                raise await self._refusal(response)
        return "Pushed"

    async def _refusal(self, response: Any) -> LabkitError:
        error = await self._client.failure(response, f"push to {self._reference.familiar_name}")
        if response.status == 403:
            return type(error)(
                "denied: requested access to the resource is denied",
                hint=f"docker login {self._reference.domain}, or push to a name of your own",
            )
        return error

    def _mount_source(self, digest: str) -> str:
        """Another repository of this registry that is known to have the blob."""
        index = self._store.index
        domain, own = self._reference.domain + "/", self._reference.name
        for image_id in index.images_with_blob(digest):
            for name, _ in index.digests_of(image_id):
                if name.startswith(domain) and name != own:
                    return name.removeprefix(domain)
        return ""

    async def _body(self, blob: _Blob) -> AsyncIterator[bytes]:
        fd = await asyncio.to_thread(_open, self._store.blobs, blob.digest)
        said = position = 0.0
        try:
            while data := await asyncio.to_thread(os.read, fd, _CHUNK):
                yield data
                position += len(data)
                now = time.monotonic()
                if blob.shown and now - said > _EVERY_SECONDS:
                    said = now
                    detail = {"current": int(position), "total": blob.size}
                    self._lines.put_nowait(
                        {"status": "Pushing", "progressDetail": detail, "id": blob.shown}
                    )
        finally:
            os.close(fd)


def _open(blobs: BlobStore, digest: str) -> int:
    return os.open(blobs.path(digest), os.O_RDONLY | os.O_CLOEXEC)


def _line(layer: _Blob, word: str) -> Line:
    return {"status": word, "progressDetail": {}, "id": layer.shown}
