"""Pull an image: manifests, then layers in parallel, hashed as they stream, then unpacked."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import aiohttp

from labkit.base.errors import LabkitError, NotFound, SystemFailure, Unavailable, Unsupported
from labkit.base.ids import short_id
from labkit.host.image.blobs import BlobWriter
from labkit.host.image.index import LayerBlob
from labkit.host.image.layers import decompressor
from labkit.host.image.model import check_config
from labkit.host.image.reference import Reference
from labkit.host.image.registry.client import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Manifest,
    RegistryClient,
)
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.standins.machine import architecture
from labkit.host.image.store import ImageStore

__all__ = ["choose_platform", "download"]

_MAX_CONFIG = 8 << 20
_BATCH = 1 << 20
_EVERY_SECONDS = 0.1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Layer:
    digest: str
    diff_id: str
    size: int
    media_type: str

    @property
    def shown(self) -> str:
        return short_id(self.digest)


async def download(
    store: ImageStore, reference: Reference, options: RegistryOptions, platform: str = ""
) -> AsyncIterator[Line]:
    """Pull one tag or digest, yielding Docker's progress lines.

    Raises NotFound, Forbidden, Unauthorized, Unavailable before the first line, SystemFailure
    when what arrives is not what was announced. A broken download leaves its beginning behind,
    from which the next try continues.
    """
    reference = reference.with_default_tag()
    async with RegistryClient(reference, options) as client:
        word = reference.digest or reference.tag
        top = await client.manifest(word)
        yield {"status": f"Pulling from {reference.path}", "id": word}
        chosen = await _platform_manifest(client, top, platform)
        before = store.find_id(str(reference))
        known = store.index.digest(reference.name, top.digest)
        if known is not None and before == known:
            yield {"status": f"Digest: {top.digest}"}
            yield {"status": f"Status: Image is up to date for {reference.familiar}"}
            return
        config, layers = await _contents(client, chosen)
        held = [top.digest, chosen.digest]
        held += [word for layer in layers for word in (layer.digest, layer.diff_id)]
        with store.lease(*held):
            fetch = _Fetch(store, client, options)
            async for line in fetch.run(layers):
                yield line
            image_id = await asyncio.to_thread(
                _register, store, reference, top, chosen, config, layers
            )
    yield {"status": f"Digest: {top.digest}"}
    words = "Image is up to date" if before == image_id else "Downloaded newer image"
    yield {"status": f"Status: {words} for {reference.familiar}"}


# -- manifests -----------------------------------------------------------------------------


def _document(manifest: Manifest) -> Mapping[str, Any]:
    try:
        document = json.loads(manifest.data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise SystemFailure(f"manifest {manifest.digest} is not JSON")
    return document


def _kind(manifest: Manifest) -> str:
    """The media type; some registries send application/json, then the document says it."""
    if manifest.media_type in (*MANIFEST_TYPES, *INDEX_TYPES):
        return manifest.media_type
    document = _document(manifest)
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


async def _platform_manifest(client: RegistryClient, top: Manifest, platform: str) -> Manifest:
    kind = _kind(top)
    if kind in MANIFEST_TYPES:
        return Manifest(top.digest, kind, top.data)
    if kind not in INDEX_TYPES:
        raise Unsupported(f"the registry sent a {kind}, which is not an image")
    entries = _document(top).get("manifests")
    entry = choose_platform(entries if isinstance(entries, list) else [], platform)
    if entry is None:
        wanted = platform or f"linux/{architecture()}"
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    digest = entry.get("digest")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise SystemFailure("the image index names a manifest by something that is no digest")
    chosen = await client.manifest(digest)
    return Manifest(chosen.digest, _kind(chosen), chosen.data)


async def _contents(client: RegistryClient, manifest: Manifest) -> tuple[bytes, list[_Layer]]:
    """The config and the layers a manifest names, with everything checked that can be."""
    document = _document(manifest)
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
        _Layer(item["digest"], diff_id, item["size"], str(item.get("mediaType", "")))
        for item, diff_id in zip(descriptors, diff_ids, strict=True)
    ]
    return data, layers


def _register(
    store: ImageStore,
    reference: Reference,
    top: Manifest,
    chosen: Manifest,
    config: bytes,
    layers: list[_Layer],
) -> str:
    blobs = [(chosen.digest, "manifest", chosen.media_type)]
    store.blobs.put(chosen.data)
    if top.digest != chosen.digest:
        store.blobs.put(top.data)
        blobs.append((top.digest, "index", _kind(top)))
    blobs += [(layer.digest, "layer", layer.media_type) for layer in layers]
    with store.lock, store.index.transaction():
        image_id = store.add_image(config, blobs=blobs, origin=reference.domain)
        store.index.set_digest(reference.name, top.digest, image_id)
        if reference.tag:
            store.set_tag(reference, image_id)
    return image_id


# -- layers --------------------------------------------------------------------------------


class _Fetch:
    """Brings the missing layers, at most `options.parallel` at a time."""

    def __init__(self, store: ImageStore, client: RegistryClient, options: RegistryOptions) -> None:
        self._store = store
        self._client = client
        self._options = options
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._slots = asyncio.Semaphore(options.parallel)

    async def run(self, layers: list[_Layer]) -> AsyncIterator[Line]:
        """Fetch all; yields progress lines. The first failure stops the others and is raised."""
        distinct = list({layer.digest: layer for layer in layers}.values())
        missing = [layer for layer in distinct if not self._is_here(layer)]
        for layer in distinct:
            word = "Pulling fs layer" if layer in missing else "Already exists"
            yield _line(layer, word)
        for layer in missing[self._options.parallel :]:
            yield _line(layer, "Waiting")
        tasks = [asyncio.create_task(self._layer(layer)) for layer in missing]
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

    def _is_here(self, layer: _Layer) -> bool:
        index = self._store.index
        known = index.layer_by_blob(layer.digest)
        return (
            known is not None
            and known.diff_id == layer.diff_id
            and index.layer(layer.diff_id) is not None
            and self._store.blobs.find(layer.digest) is not None
        )

    async def _layer(self, layer: _Layer) -> None:
        key = (str(self._store.root), layer.digest)
        lock = _locks.setdefault(key, asyncio.Lock())
        # Another pull may be bringing the same layer: wait for it rather than write beside it.
        async with self._slots, lock:
            if self._is_here(layer):
                self._lines.put_nowait(_line(layer, "Already exists"))
                return
            if self._store.blobs.find(layer.digest) is None:
                await self._blob(layer)
            self._lines.put_nowait(_line(layer, "Download complete"))
            await self._unpack(layer)
            self._lines.put_nowait(_line(layer, "Pull complete"))

    async def _blob(self, layer: _Layer) -> None:
        pause = self._options.pause_seconds
        for attempt in range(1, self._options.attempts + 1):
            writer = await asyncio.to_thread(self._store.blobs.resumable_writer, layer.digest)
            try:
                await self._stream(layer, writer)
                self._lines.put_nowait(_line(layer, "Verifying Checksum"))
                await asyncio.to_thread(writer.commit, layer.digest)
            except (aiohttp.ClientError, TimeoutError, OSError, Unavailable) as error:
                writer.abandon()
                if attempt == self._options.attempts:
                    if isinstance(error, LabkitError):
                        raise
                    raise Unavailable(
                        f"layer {layer.shown} broke off: {error or type(error).__name__}",
                        hint="pull again: it continues where it stopped",
                    ) from error
                await asyncio.sleep(pause)
                pause *= 2
            except BaseException:
                writer.abandon()
                raise
            else:
                return

    async def _stream(self, layer: _Layer, writer: BlobWriter) -> None:
        """The rest of the blob from where the writer stands, hashed in another thread."""
        if writer.size > layer.size:
            writer.restart()
        async with self._client.blob(layer.digest, writer.size) as response:
            if writer.size and response.status != 206:
                writer.restart()
                if response.status == 416:
                    raise Unavailable("the registry refuses to continue; starting again")
            batch = bytearray()
            said = 0.0
            async for piece in response.content.iter_any():
                batch += piece
                if writer.size + len(batch) > layer.size:
                    writer.restart()
                    raise SystemFailure(
                        f"layer {layer.shown} is larger than the {layer.size} bytes announced"
                    )
                if len(batch) < _BATCH:
                    continue
                await asyncio.to_thread(writer.write, bytes(batch))
                batch.clear()
                if time.monotonic() - said > _EVERY_SECONDS:
                    said = time.monotonic()
                    self._progress(layer, "Downloading", writer.size)
            await asyncio.to_thread(writer.write, bytes(batch))
        if writer.size < layer.size:
            raise Unavailable(f"layer {layer.shown} ended after {writer.size} bytes")
        self._progress(layer, "Downloading", writer.size)

    async def _unpack(self, layer: _Layer) -> None:
        loop = asyncio.get_running_loop()

        def said(position: int) -> None:
            loop.call_soon_threadsafe(self._progress, layer, "Extracting", position)

        await asyncio.to_thread(self._unpack_now, layer, said)

    def _unpack_now(self, layer: _Layer, said: Any) -> None:
        fd = os.open(self._store.blobs.path(layer.digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            source = decompressor(_Counted(fd, said), os.pread(fd, 4, 0))
            self._store.layers.unpack(source, layer.diff_id)
        finally:
            os.close(fd)
        said(layer.size)
        self._store.index.add_layer_blob(
            LayerBlob(layer.diff_id, layer.digest, layer.media_type, layer.size)
        )

    def _progress(self, layer: _Layer, word: str, current: int) -> None:
        detail = {"current": current, "total": layer.size}
        self._lines.put_nowait({"status": word, "progressDetail": detail, "id": layer.shown})


class _Counted:
    """A file as a byte source that says now and then how far it was read."""

    def __init__(self, fd: int, said: Any) -> None:
        self._fd = fd
        self._said = said
        self._position = 0
        self._last = time.monotonic()

    def read(self, size: int, /) -> bytes:
        data = os.read(self._fd, size)
        self._position += len(data)
        now = time.monotonic()
        if now - self._last > _EVERY_SECONDS:
            self._last = now
            self._said(self._position)
        return data


def _line(layer: _Layer, word: str) -> Line:
    return {"status": word, "progressDetail": {}, "id": layer.shown}
