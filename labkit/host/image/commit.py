"""New images from what is there: `docker commit`, `docker import`, `docker export`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from labkit.host.image.beneath import open_directory
from labkit.host.image.difftree import diff_trees, write_upper
from labkit.host.image.digests import canonical_json
from labkit.host.image.exporttree import write_union
from labkit.host.image.index import LayerBlob
from labkit.host.image.ingest import ingest, ingest_tar
from labkit.host.image.model import Image, format_time
from labkit.host.image.reference import Reference
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.standins.machine import architecture
from labkit.host.image.store import ImageStore
from labkit.host.image.tarwrite import TarWriter

__all__ = ["add_layer", "commit", "export", "import_image"]


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def add_layer(
    store: ImageStore,
    base: Image | None,
    layer: LayerBlob | None,
    *,
    defaults: Mapping[str, Any],
    created_by: str = "",
    comment: str = "",
    author: str = "",
    parent: str = "",
    created_ns: int | None = None,
    origin: str = "build",
    platform: str = "",
) -> str:
    """Register `base` with one more step; returns the new image's id.

    `platform` (`linux/arm64`, `linux/arm/v7`) is told of an image that has no base; by default it
    is for this machine.
    `layer` None makes a step without content (`empty_layer`). `defaults` is the whole new config
    part. The same arguments and time give the same id.
    """
    created = format_time(store.now_ns() if created_ns is None else created_ns)
    config: dict[str, Any] = dict(base.config) if base is not None else {}
    diff_ids = list(base.diff_ids) if base is not None else []
    step: dict[str, Any] = {"created": created, "created_by": created_by}
    if author:
        step["author"] = author
    if comment:
        step["comment"] = comment
    if layer is None:
        step["empty_layer"] = True
    else:
        diff_ids.append(layer.diff_id)
    config.update(
        created=created,
        author=author or config.get("author", ""),
        config=dict(defaults),
        rootfs={"type": "layers", "diff_ids": diff_ids},
        history=[*(config.get("history") or []), step],
    )
    if base is None and platform:
        config |= zip(("os", "architecture", "variant"), platform.split("/"), strict=False)
    config.setdefault("architecture", architecture())
    config.setdefault("os", "linux")
    blobs = store.index.image_blobs(base.id) if base is not None else []
    kept = [blob for blob in blobs if blob[1] == "layer"]
    if layer is not None:
        kept.append((layer.digest, "layer", layer.media_type))
    return store.add_image(canonical_json(config), blobs=kept, parent=parent, origin=origin)


def commit(
    store: ImageStore,
    snapshots: Snapshotter,
    container_id: str,
    image: Image,
    *,
    defaults: Mapping[str, Any],
    created_by: str = "",
    comment: str = "",
    author: str = "",
    reference: Reference | None = None,
) -> str:
    """`docker commit`: the container's writable layer on top of its image; returns the id.

    The caller pauses the container meanwhile if asked to, and merges `--change` into `defaults`.
    """
    spec = snapshots.root_spec(container_id)

    def produce(write: Callable[[bytes], object]) -> None:
        writer = TarWriter(write)
        upper = open_directory(snapshots.upper(container_id))
        try:
            if spec.path is None:
                write_upper(upper, writer)
            else:
                _write_difference(store, image, upper, writer)
        finally:
            os.close(upper)
        writer.close()

    layer = ingest_tar(store, produce)
    with store.lease(layer.digest, layer.diff_id):
        image_id = add_layer(
            store,
            image,
            layer,
            defaults=defaults,
            created_by=created_by,
            comment=comment,
            author=author,
            parent=image.id,
            origin="commit",
        )
        if reference is not None:
            store.set_tag(reference, image_id)
    return image_id


def _write_difference(store: ImageStore, image: Image, upper: int, writer: TarWriter) -> None:
    """Without an overlay: compare the container's copy with a fresh one of its image."""
    from labkit.host.image.copytree import copy_stack

    folder = store.layers.temporary_folder()
    try:
        (folder / "base").mkdir()
        copy_stack(store.layer_paths(image)[::-1], folder / "base")
        lower = open_directory(folder / "base")
        try:
            diff_trees(lower, upper, writer)
        finally:
            os.close(lower)
    finally:
        store.layers.discard_folder(folder.name)


def export(snapshots: Snapshotter, container_id: str, write: Callable[[bytes], object]) -> None:
    """`docker export` of a stopped container: its whole tree as one tar, no layers, no marks."""
    writer = TarWriter(write)
    with snapshots.view(container_id) as tree:
        write_union(tree, writer)
    writer.close()


def import_image(
    store: ImageStore,
    source: _Source,
    *,
    reference: Reference | None = None,
    message: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """`docker import`: one layer from a tar of a file system; returns the id."""
    layer = ingest(store, source)
    with store.lease(layer.digest, layer.diff_id):
        image_id = add_layer(
            store,
            None,
            layer,
            defaults=defaults or {},
            comment=message or "Imported from -",
            origin="import",
        )
        if reference is not None:
            store.set_tag(reference, image_id)
    return image_id
