"""Pull an image: manifests, then layers in parallel, hashed as they stream, then unpacked."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

import aiohttp

from labkit.base.errors import LabkitError, SystemFailure, Unavailable
from labkit.host.image.blobs import BlobWriter
from labkit.host.image.index import LayerBlob
from labkit.host.image.layers import decompressor
from labkit.host.image.reference import Reference
from labkit.host.image.registry.client import Manifest, RegistryClient
from labkit.host.image.registry.manifests import (
    Layer,
    choose_platform,
    contents,
    kind_of,
    platform_manifest,
)
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.store import ImageStore

__all__ = ["choose_platform", "download", "download_all"]

_BATCH = 1 << 20
_EVERY_SECONDS = 0.1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

Line = dict[str, Any]


async def download(
    store: ImageStore, reference: Reference, options: RegistryOptions, platform: str = ""
) -> AsyncIterator[Line]:
    """Pull one tag or digest, yielding Docker's progress lines.

    Raises NotFound, Forbidden, Unauthorized, Unavailable before the first line, SystemFailure
    when what arrives is not what was announced. A broken download leaves its beginning behind,
    from which the next try continues.
    """
    async for line in _download_one(store, reference.with_default_tag(), options, platform):
        yield line


async def download_all(
    store: ImageStore, reference: Reference, options: RegistryOptions, platform: str = ""
) -> AsyncIterator[Line]:
    """`docker pull -a`: every tag of the repository, then one status for all of them."""
    async with RegistryClient(reference, options) as client:
        tags = await client.tags()
    is_new = False
    for tag in tags:
        async for line in _download_one(store, reference.with_tag(tag), options, platform):
            status = str(line.get("status"))
            if status.startswith("Status: "):
                is_new = is_new or "Downloaded newer image" in status
                continue
            yield line
    words = "Downloaded newer image" if is_new else "Image is up to date"
    yield {"status": f"Status: {words} for {reference.familiar_name}"}


async def _download_one(
    store: ImageStore, reference: Reference, options: RegistryOptions, platform: str
) -> AsyncIterator[Line]:
    skip = 0
    while True:
        async with RegistryClient(reference, options, skip=skip) as client:
            try:
                top = await _top(client, reference)
            except LabkitError:
                # A mirror that has it not, or is unwell, is passed over.
                if not client.is_mirror:
                    raise
                skip = client.position + 1
                continue
            async for line in _download_from(client, store, reference, options, platform, top):
                yield line
            return


async def _top(client: RegistryClient, reference: Reference) -> Manifest | str:
    """The manifest asked for, or only its digest where a HEAD tells that."""
    if reference.digest:
        return await client.manifest(reference.digest)
    return await client.resolve(reference.tag) or await client.manifest(reference.tag)


async def _download_from(
    client: RegistryClient,
    store: ImageStore,
    reference: Reference,
    options: RegistryOptions,
    platform: str,
    found: Manifest | str,
) -> AsyncIterator[Line]:
    word = reference.digest or reference.tag
    digest = found if isinstance(found, str) else found.digest
    before = store.find_id(str(reference))
    known = store.index.digest(reference.name, digest)
    if known is not None and before == known and _is_for(store, known, platform):
        yield {"status": f"Pulling from {reference.path}", "id": word}
        yield {"status": f"Digest: {digest}"}
        yield {"status": f"Status: Image is up to date for {reference.familiar}"}
        return
    top = await client.manifest(found) if isinstance(found, str) else found
    yield {"status": f"Pulling from {reference.path}", "id": word}
    chosen = await platform_manifest(client, top, platform)
    config, layers = await contents(client, chosen)
    held = [top.digest, chosen.digest]
    held += [word for layer in layers for word in (layer.digest, layer.diff_id)]
    with store.lease(*held):
        fetch = _Fetch(store, client, options)
        async for line in fetch.run(layers):
            yield line
        image_id = await asyncio.to_thread(_register, store, reference, top, chosen, config, layers)
    yield {"status": f"Digest: {top.digest}"}
    words = "Image is up to date" if before == image_id else "Downloaded newer image"
    yield {"status": f"Status: {words} for {reference.familiar}"}
    if platform and not _is_for(store, image_id, platform):
        actual = _platform_of(store.config_of(image_id))
        yield {
            "status": f"WARNING: image with reference {reference.familiar} was found but does not "
            f"match the specified platform: wanted {platform}, actual: {actual}"
        }


def _platform_of(config: Mapping[str, Any]) -> str:
    parts = (config.get("os", "linux"), config.get("architecture", ""), config.get("variant", ""))
    return "/".join(str(part) for part in parts if part)


def _is_for(store: ImageStore, image_id: str, platform: str) -> bool:
    """Whether an image that is here is of the platform asked for (this machine's, when none is)."""
    return choose_platform([{"platform": store.config_of(image_id)}], platform) is not None


# -- the store ---------------------------------------------------------------------------


def _register(
    store: ImageStore,
    reference: Reference,
    top: Manifest,
    chosen: Manifest,
    config: bytes,
    layers: list[Layer],
) -> str:
    blobs = [(chosen.digest, "manifest", chosen.media_type)]
    store.blobs.put(chosen.data)
    if top.digest != chosen.digest:
        store.blobs.put(top.data)
        blobs.append((top.digest, "index", kind_of(top)))
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
        self._unpacking = asyncio.Semaphore(max(2, os.cpu_count() or 2))

    async def run(self, layers: list[Layer]) -> AsyncIterator[Line]:
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

    def _is_here(self, layer: Layer) -> bool:
        index = self._store.index
        known = index.layer_by_blob(layer.digest)
        return (
            known is not None
            and known.diff_id == layer.diff_id
            and index.layer(layer.diff_id) is not None
            and self._store.blobs.find(layer.digest) is not None
        )

    async def _layer(self, layer: Layer) -> None:
        key = (str(self._store.root), layer.digest)
        lock = _locks.setdefault(key, asyncio.Lock())
        # Another pull may be bringing the same layer: wait for it rather than write beside it.
        async with lock:
            if self._is_here(layer):
                self._lines.put_nowait(_line(layer, "Already exists"))
                return
            # Whoever unpacks leaves the line to the next: the network need not wait for the disk.
            async with self._slots:
                if self._store.blobs.find(layer.digest) is None:
                    await self._blob(layer)
            self._lines.put_nowait(_line(layer, "Download complete"))
            async with self._unpacking:
                await self._unpack(layer)
            self._lines.put_nowait(_line(layer, "Pull complete"))

    async def _blob(self, layer: Layer) -> None:
        pause = self._options.pause_seconds
        for attempt in range(1, self._options.attempts + 1):
            writer = await asyncio.to_thread(self._store.blobs.resumable_writer, layer.digest)
            try:
                await self._stream(layer, writer)
                self._lines.put_nowait(_line(layer, "Verifying Checksum"))
                await asyncio.to_thread(writer.commit, layer.digest)
            except (aiohttp.ClientError, TimeoutError, OSError, Unavailable) as error:
                if isinstance(error, OSError) and error.errno in _FULL:
                    await asyncio.to_thread(writer.discard)
                    raise SystemFailure(
                        f"write layer {layer.shown}: {os.strerror(error.errno).lower()}",
                        hint="free some space, for example with docker system prune",
                    ) from error
                writer.abandon()
                if attempt == self._options.attempts:
                    if isinstance(error, LabkitError):
                        raise
                    raise Unavailable(
                        f"layer {layer.shown} broke off: {error or type(error).__name__}",
                        hint="pull again: it continues where it stopped",
                    ) from error
                await self._pause(layer, pause)
                pause *= 2
            except BaseException:
                writer.abandon()
                raise
            else:
                return

    async def _pause(self, layer: Layer, seconds: float) -> None:
        """Wait before the next try, and say so as Docker does."""
        whole = max(1, round(seconds))
        words = f"Retrying in {whole} second{'' if whole == 1 else 's'}"
        self._lines.put_nowait(_line(layer, words))
        await asyncio.sleep(seconds)

    async def _stream(self, layer: Layer, writer: BlobWriter) -> None:
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

    async def _unpack(self, layer: Layer) -> None:
        loop = asyncio.get_running_loop()

        def said(position: int) -> None:
            loop.call_soon_threadsafe(self._progress, layer, "Extracting", position)

        await asyncio.to_thread(self._unpack_now, layer, said)

    def _unpack_now(self, layer: Layer, said: Any) -> None:
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

    def _progress(self, layer: Layer, word: str, current: int) -> None:
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


def _line(layer: Layer, word: str) -> Line:
    return {"status": word, "progressDetail": {}, "id": layer.shown}
