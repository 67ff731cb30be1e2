"""`docker save` and `docker load`: images as one tar that is an OCI layout and a Docker archive.

Blobs are written as they are, with the manifest an image came with, so that what is loaded again
has the digests it had. Loading reads OCI layouts, archives of current Docker and those of old ones.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.base.ids import new_id
from labkit.host.image.beneath import open_directory, remove_tree
from labkit.host.image.digests import canonical_json, digest_of
from labkit.host.image.entry import Entry
from labkit.host.image.index import LayerBlob
from labkit.host.image.ingest import FileSource, ingest
from labkit.host.image.model import Image, check_config
from labkit.host.image.reference import parse
from labkit.host.image.registry.client import INDEX_TYPES
from labkit.host.image.registry.download import choose_platform
from labkit.host.image.registry.upload import OCI_TYPES, manifest_of
from labkit.host.image.store import ImageStore
from labkit.host.image.tarread import TarReader
from labkit.host.image.tarwrite import TarWriter

__all__ = ["load", "save"]

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MAX_JSON = 8 << 20
_MAX_MEMBERS = 100_000


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


# -- save ----------------------------------------------------------------------------------


def save(store: ImageStore, names: Sequence[str], write: Callable[[bytes], object]) -> None:
    """Write the named images (or ids) through `write`. Raises NotFound before writing anything."""
    chosen: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        image = store.get(name)
        _, tags = chosen.setdefault(image.id, (image, []))
        if not image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
            parsed = parse(name)
            tags += [parsed.familiar] if not parsed.digest else []
    writer = TarWriter(write)
    with ExitStack() as stack:
        stack.enter_context(store.lease(*chosen))
        docker, index, blobs = _plan(store, list(chosen.values()))
        writer.add(Entry("blobs", "dir", 0o755))
        writer.add(Entry("blobs/sha256", "dir", 0o755))
        for digest in sorted(blobs):
            _add_blob(store, writer, digest, blobs[digest])
        _add_json(writer, "index.json", index)
        _add_json(writer, "manifest.json", docker)
        _add_json(writer, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        repositories: dict[str, dict[str, str]] = {}
        for image, tags in chosen.values():
            for tag in tags:
                name, _, word = tag.rpartition(":")
                repositories.setdefault(name, {})[word] = image.id[7:]
        if repositories:
            _add_json(writer, "repositories", repositories)
    writer.close()


def _plan(
    store: ImageStore, chosen: list[tuple[Image, list[str]]]
) -> tuple[list[Any], dict[str, Any], dict[str, bytes]]:
    docker: list[Any] = []
    manifests: list[Any] = []
    blobs: dict[str, bytes] = {}
    for image, tags in chosen:
        media_type, manifest = manifest_of(store, image, types=OCI_TYPES)
        layers = [item["digest"] for item in json.loads(manifest)["layers"]]
        blobs[digest_of(manifest)] = manifest
        blobs.update(dict.fromkeys([image.id, *layers], b""))
        docker.append(
            {
                "Config": _blob_name(image.id),
                "RepoTags": tags or None,
                "Layers": [_blob_name(digest) for digest in layers],
            }
        )
        descriptor = {
            "mediaType": media_type,
            "digest": digest_of(manifest),
            "size": len(manifest),
        }
        for tag in tags:
            annotations = {
                "io.containerd.image.name": parse(tag).canonical,
                "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
            }
            manifests.append({**descriptor, "annotations": annotations})
        if not tags:
            manifests.append(descriptor)
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
    return docker, index, blobs


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def _add_json(writer: TarWriter, name: str, value: Any) -> None:
    data = canonical_json(value)
    writer.add(Entry(name, size=len(data)), [(0, data)])


def _add_blob(store: ImageStore, writer: TarWriter, digest: str, data: bytes) -> None:
    if data:
        writer.add(Entry(_blob_name(digest), size=len(data)), [(0, data)])
        return
    with open(store.blobs.path(digest), "rb") as file:
        size = os.fstat(file.fileno()).st_size

        def pieces() -> Iterator[tuple[int, bytes]]:
            position = 0
            while piece := file.read(1 << 20):
                yield position, piece
                position += len(piece)

        writer.add(Entry(_blob_name(digest), size=size), pieces())


# -- load ----------------------------------------------------------------------------------


def load(store: ImageStore, source: _Source) -> Iterator[dict[str, Any]]:
    """Load every image of an archive, yielding Docker's lines (`Loaded image: x:latest`).

    Raises InvalidParameter for what is no image archive; images loaded before the error stay.
    """
    folder = store.root / "blobs" / "ingest" / f"load-{new_id()}"
    folder.mkdir()
    try:
        yield from _Archive(store, _spool(folder, source)).load()
    finally:
        parent = open_directory(folder.parent)
        try:
            remove_tree(folder.name, dir_fd=parent)
        finally:
            os.close(parent)


@dataclass(frozen=True, slots=True)
class _Member:
    path: Path
    size: int


def _clean(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _spool(folder: Path, source: _Source) -> dict[str, _Member]:
    """Put the archive's files aside under names of ours; theirs are only looked up."""
    files: dict[str, _Member] = {}
    links: dict[str, str] = {}
    reader = TarReader(source)
    for number, entry in enumerate(reader):
        if number >= _MAX_MEMBERS:
            raise InvalidParameter(f"invalid archive: more than {_MAX_MEMBERS} members")
        name = _clean(entry.name)
        if entry.kind == "file":
            path = folder / str(number)
            with open(path, "xb") as file:
                for offset, data in reader.content():
                    file.seek(offset)
                    file.write(data)
                file.truncate(entry.size)
            files[name] = _Member(path, entry.size)
        elif entry.kind == "symlink":
            links[name] = _clean(posixpath.join(posixpath.dirname(name), entry.link))
        elif entry.kind == "link":
            links[name] = _clean(entry.link)
    for name, target in links.items():
        # Archives of old clients link a layer.tar that two images share.
        for _ in range(8):
            if target not in links:
                break
            target = links[target]
        if target in files:
            files[name] = files[target]
    return files


class _Archive:
    def __init__(self, store: ImageStore, files: Mapping[str, _Member]) -> None:
        self._store = store
        self._files = files
        self._manifests = self._known_manifests()

    def load(self) -> Iterator[dict[str, Any]]:
        if "manifest.json" in self._files:
            listed = self._json("manifest.json")
            if not isinstance(listed, list):
                raise InvalidParameter("invalid manifest.json: not a list")
            for item in listed:
                yield from self._docker(item)
        elif "index.json" in self._files:
            yield from self._layout()
        else:
            raise InvalidParameter(
                "invalid archive: it holds neither manifest.json nor index.json",
                hint="docker import reads a tar of a file system, docker load one of images",
            )

    def _bytes(self, name: str) -> bytes:
        member = self._files.get(_clean(name))
        if member is None:
            raise InvalidParameter(f"invalid archive: {name} is missing")
        if member.size > _MAX_JSON:
            raise InvalidParameter(f"invalid archive: {name} is larger than {_MAX_JSON} bytes")
        return member.path.read_bytes()

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._bytes(name))
        except ValueError as error:
            raise InvalidParameter(f"invalid archive: {name} is not JSON") from error

    # -- Docker's own format ---------------------------------------------------------------

    def _docker(self, item: Any) -> Iterator[dict[str, Any]]:
        if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
            raise InvalidParameter("invalid manifest.json: an entry has no Config")
        layers = item.get("Layers") or []
        tags = item.get("RepoTags") or []
        if not isinstance(layers, list) or not isinstance(tags, list):
            raise InvalidParameter("invalid manifest.json: Layers and RepoTags must be lists")
        config = self._bytes(item["Config"])
        manifest = self._manifests.get(digest_of(config))
        image_id = self._image(config, [str(layer) for layer in layers], manifest)
        yield from self._named(image_id, [str(tag) for tag in tags])

    def _known_manifests(self) -> dict[str, tuple[str, bytes]]:
        """Manifests of an accompanying OCI index, by the config they name."""
        found: dict[str, tuple[str, bytes]] = {}
        if "index.json" not in self._files:
            return found
        for descriptor, document, data in self._indexed("index.json"):
            config = document.get("config")
            if isinstance(config, dict) and isinstance(config.get("digest"), str):
                kind = str(descriptor.get("mediaType") or _MANIFEST_TYPE)
                found[config["digest"]] = (kind, data)
        return found

    def _image(self, config: bytes, layers: list[str], manifest: tuple[str, bytes] | None) -> str:
        try:
            diff_ids = check_config(json.loads(config))
        except ValueError as error:
            raise InvalidParameter("invalid archive: an image config is not JSON") from error
        if len(diff_ids) != len(layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, "
                f"got {len(layers)}"
            )
        store = self._store
        with ExitStack() as held:
            held.enter_context(store.lease(digest_of(config), *diff_ids))
            blobs = []
            for name, diff_id in zip(layers, diff_ids, strict=True):
                blob = self._layer(name, diff_id, keep=manifest is not None)
                held.enter_context(store.lease(blob.digest))
                blobs.append((blob.digest, "layer", blob.media_type))
            if manifest is not None and self._fits(manifest[1], blobs):
                blobs.append((store.blobs.put(manifest[1]), "manifest", manifest[0]))
            return store.add_image(config, blobs=blobs, origin="load")

    @staticmethod
    def _fits(manifest: bytes, blobs: list[tuple[str, str, str]]) -> bool:
        """Whether the manifest speaks of the layers as they are in this archive."""
        named = {item.get("digest") for item in json.loads(manifest).get("layers", [])}
        return named <= {digest for digest, _, _ in blobs}

    def _layer(self, name: str, diff_id: str, *, keep: bool) -> LayerBlob:
        member = self._files.get(_clean(name))
        if member is None:
            raise InvalidParameter(f"invalid archive: layer {name} is missing")
        fd = os.open(member.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return ingest(self._store, FileSource(fd), diff_id=diff_id, keep=keep)
        except LabkitError as error:
            raise InvalidParameter(f"invalid archive: {name}: {error.message}") from error
        finally:
            os.close(fd)

    def _named(self, image_id: str, tags: list[str]) -> Iterator[dict[str, Any]]:
        for tag in tags:
            reference = parse(tag).with_default_tag()
            self._store.set_tag(reference, image_id)
            yield {"stream": f"Loaded image: {reference.familiar}\n"}
        if not tags:
            yield {"stream": f"Loaded image ID: {image_id}\n"}

    # -- OCI layouts -----------------------------------------------------------------------

    def _layout(self) -> Iterator[dict[str, Any]]:
        for descriptor, document, data in self._indexed("index.json"):
            config, layers = document.get("config"), document.get("layers")
            if not isinstance(config, dict) or not isinstance(layers, list):
                raise InvalidParameter("invalid archive: a manifest lacks its config or layers")
            names = [_digest_name(layer) for layer in layers]
            kind = str(descriptor.get("mediaType") or _MANIFEST_TYPE)
            image_id = self._image(self._bytes(_digest_name(config)), names, (kind, data))
            annotations = descriptor.get("annotations") or {}
            name = annotations.get("io.containerd.image.name") or annotations.get(
                "org.opencontainers.image.ref.name"
            )
            # A bare tag names no repository: the image is then known by its id only.
            is_name = isinstance(name, str) and ("/" in name or ":" in name)
            yield from self._named(image_id, [name] if is_name and name else [])

    def _indexed(self, name: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], bytes]]:
        """(descriptor, document, bytes) of each image manifest an index names, platform chosen."""
        index = self._json(name)
        entries = index.get("manifests") if isinstance(index, dict) else None
        for descriptor in entries if isinstance(entries, list) else []:
            chosen = descriptor
            data = self._bytes(_digest_name(descriptor))
            if descriptor.get("mediaType") in INDEX_TYPES:
                inner = json.loads(data).get("manifests") or []
                found = choose_platform(inner, "")
                if found is None:
                    continue
                chosen = {**found, "annotations": descriptor.get("annotations")}
                data = self._bytes(_digest_name(found))
            if digest_of(data) != chosen["digest"]:
                raise InvalidParameter(f"invalid archive: {chosen['digest']} is damaged")
            document = json.loads(data)
            if not isinstance(document, dict):
                raise InvalidParameter("invalid archive: a manifest is not an object")
            yield chosen, document, data


def _digest_name(descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not digest.startswith("sha256:") or "/" in digest:
        raise InvalidParameter("invalid archive: a descriptor has no sha256 digest")
    return _blob_name(digest)
