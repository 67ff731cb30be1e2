"""A read-only store beside one's own: its images are known here, its layers used in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labkit.host.image.index import ImageRow, Index, LayerRow

__all__ = ["import_shared"]


def import_shared(index: Index, root: Path, now_ns: Callable[[], int]) -> None:
    """Make the images of a read-only store known here, once; its layers are used in place."""
    path = root / "image.db"
    if not path.exists():
        return
    other = Index(path, readonly=True)
    try:
        for row in other.images():
            if index.was_shared_seen(str(root), row.id):
                continue
            with index.transaction():
                _import_image(index, root, other, row, now_ns)
    finally:
        other.close()


def _import_image(
    index: Index, root: Path, other: Index, row: ImageRow, now_ns: Callable[[], int]
) -> None:
    pairs = other.image_layers(row.id)
    for diff_id, _ in pairs:
        layer = other.layer(diff_id)
        if layer is None:
            return  # its owner is just removing it
        index.add_layer(LayerRow(diff_id, layer.size, layer.root or str(root)))
        for blob in other.layer_blobs(diff_id):
            index.add_layer_blob(blob)
    index.add_image(row, pairs, other.image_blobs(row.id), now_ns=now_ns())
    for name, tag in other.tags_of(row.id):
        if index.tag(name, tag) is None:
            index.set_tag(name, tag, row.id, now_ns=now_ns())
    for name, digest in other.digests_of(row.id):
        index.set_digest(name, digest, row.id)
    index.mark_shared_seen(str(root), row.id)
