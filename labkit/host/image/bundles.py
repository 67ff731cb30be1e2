"""Images that were carried here in a bundle, kept outside the image store.

    LABKIT_HOME/catalog/images/NAME.json     which blobs an image is made of
    LABKIT_HOME/catalog/blobs/HEX            those blobs, hard links of the store's where possible

A pull that reaches no registry takes an image from here before a stand-in is built, so what was
loaded from a bundle survives `docker system prune -a` as the catalog does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labkit.base.errors import SystemFailure
from labkit.base.ids import new_id
from labkit.host.image.catalog import Built, BuiltLayer
from labkit.host.image.digests import hex_of
from labkit.host.image.index import LayerBlob
from labkit.host.image.layers import decompressor
from labkit.host.image.reference import Reference, parse
from labkit.host.image.standins.packages import catalog_folder
from labkit.host.image.store import ImageStore

__all__ = ["find", "keep", "kept", "restore"]

_CHUNK = 1 << 20


def _record(folder: Path, reference: Reference) -> Path:
    return folder / "images" / f"{quote(str(reference.with_default_tag()), safe='')}.json"


def kept(folder: Path | None = None) -> list[str]:
    """The names of all images kept, as one types them."""
    folder = folder or catalog_folder()
    try:
        names = sorted(os.listdir(folder / "images"))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append(str(json.loads((folder / "images" / name).read_text())["name"]))
    return found


def keep(store: ImageStore, name: str, folder: Path | None = None) -> str:
    """Keep an image of the store by its tag, and name its digest; returns the digest.

    Raises NotFound, SystemFailure when a blob of it is not in the store.
    """
    from labkit.host.image.registry.upload import manifest_of  # aiohttp's client costs memory

    folder = folder or catalog_folder()
    image = store.get(name)
    reference = parse(name).with_default_tag()
    media_type, manifest = manifest_of(store, image)
    layers = [
        {"diff_id": diff_id, "digest": item["digest"], "size": item["size"],
         "media_type": str(item.get("mediaType", ""))}
        for item, diff_id in zip(json.loads(manifest)["layers"], image.diff_ids, strict=True)
    ]  # fmt: skip
    digest = store.blobs.put(manifest)
    store.index.set_digest(reference.name, digest, image.id)
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for wanted in (image.id, digest, *(layer["digest"] for layer in layers)):
        _link(store.blobs.path(wanted), blobs / hex_of(wanted))
    record = _record(folder, reference)
    record.parent.mkdir(exist_ok=True)
    entry = {
        "name": reference.familiar,
        "config": image.id,
        "manifest": digest,
        "media_type": media_type,
        "layers": layers,
        "origin": image.origin,
    }
    beside = record.with_name(f".{new_id()}")
    beside.write_text(json.dumps(entry, indent=1) + "\n")
    beside.rename(record)
    return digest


def find(reference: Reference, folder: Path | None = None) -> dict[str, Any] | None:
    """What is known of a kept image; None when there is none of that name, or not whole."""
    folder = folder or catalog_folder()
    try:
        entry: dict[str, Any] = json.loads(_record(folder, reference).read_text())
    except (OSError, ValueError):
        return None
    digests = [entry["config"], entry["manifest"], *(one["digest"] for one in entry["layers"])]
    if not all((folder / "blobs" / hex_of(digest)).is_file() for digest in digests):
        return None
    return entry


def restore(store: ImageStore, entry: dict[str, Any], folder: Path | None = None) -> Built:
    """Bring a kept image back into the store, without a tag.

    Raises SystemFailure when a blob is not what its name says.
    """
    blobs = (folder or catalog_folder()) / "blobs"
    with contextlib.ExitStack() as held:
        layers = []
        for one in entry["layers"]:
            held.enter_context(store.lease(one["digest"], one["diff_id"]))
            _bring(store, blobs, one["digest"])
            _unpack(store, one)
            layers.append(BuiltLayer(one["diff_id"], one["digest"], one["size"]))
        held.enter_context(store.lease(entry["config"], entry["manifest"]))
        for digest in (entry["config"], entry["manifest"]):
            _bring(store, blobs, digest)
        image_id = store.add_image(
            store.blobs.read(entry["config"]),
            blobs=[
                (entry["manifest"], "manifest", entry["media_type"]),
                *((one["digest"], "layer", one["media_type"]) for one in entry["layers"]),
            ],
            origin=entry["origin"],
        )
    return Built(image_id, entry["manifest"], tuple(layers), "an image from a bundle")


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    beside = target.with_name(f".{new_id()}")
    try:
        os.link(source, beside)
    except OSError:  # another file system, or a kernel that protects links
        shutil.copyfile(source, beside)
    beside.rename(target)


def _bring(store: ImageStore, blobs: Path, digest: str) -> None:
    """Copy a blob into the store, hashed on the way. A link would share what may be damaged."""
    if store.blobs.find(digest) is not None:
        return
    writer = store.blobs.writer()
    try:
        for data in _pieces(blobs / hex_of(digest)):
            writer.write(data)
        writer.commit(digest)
    except OSError as error:
        writer.abandon()
        raise SystemFailure(f"cannot restore blob {digest}: {error.strerror}") from error
    except BaseException:
        writer.abandon()
        raise


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            yield data


def _unpack(store: ImageStore, one: dict[str, Any]) -> None:
    if store.index.layer(one["diff_id"]) is None:
        with open(store.blobs.path(one["digest"]), "rb") as file:
            head = file.read(4)
            file.seek(0)
            store.layers.unpack(decompressor(file, head), one["diff_id"])
    store.index.add_layer_blob(
        LayerBlob(one["diff_id"], one["digest"], one["media_type"], one["size"])
    )
