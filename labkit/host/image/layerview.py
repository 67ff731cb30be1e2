"""Images and containers taken apart, for the layers view: the stack, what each layer does, folders.

The layers of an image never change, so what they do to one another is found out once and kept for
the images looked at last. A container's writable layer is read afresh each time.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import NotFound
from labkit.host.image.digests import chain_ids
from labkit.host.image.layerdeeds import deeds_of
from labkit.host.image.layertree import Source, folder_entries
from labkit.host.image.model import Image

if TYPE_CHECKING:
    from labkit.host.image.snapshots import Snapshotter
    from labkit.host.image.store import ImageStore

__all__ = ["LayerViews", "instruction"]

Json = dict[str, Any]
_KEPT_IMAGES = 8
_NOTHING: Json = {"files": 0, "added": 0, "replaced": 0, "deleted": 0, "wasted": 0}
_NOP = re.compile(r"/bin/sh -c #\(nop\)\s+")
_MARKS = re.compile(r"\s*# buildkit\Z")


def instruction(created_by: str) -> str:
    """The Dockerfile instruction that a line of history stands for, as it was written."""
    text = _MARKS.sub("", created_by.strip())
    if _NOP.match(text):
        return _NOP.sub("", text)
    shell = "/bin/sh -c "
    if text.startswith(shell):
        return "RUN " + text[len(shell) :].strip()
    return text


class LayerViews:
    """Answers of the layers view over one store. Safe to call from any thread."""

    def __init__(self, store: ImageStore, snapshots: Snapshotter) -> None:
        self._store = store
        self._snapshots = snapshots
        self._deeds: OrderedDict[tuple[str, ...], list[Json]] = OrderedDict()

    def of_image(self, reference: str, folders: Sequence[str] = ()) -> Json:
        """The stack of an image. Raises NotFound."""
        image = self._store.get(reference)
        sources = self._sources(image)
        return {
            "kind": "image",
            "name": reference,
            **self._stack(image),
            "folders": _folders(sources, folders),
        }

    def of_container(
        self, identifier: str, name: str, image_id: str, folders: Sequence[str] = ()
    ) -> Json:
        """The stack of a container: its image's, the mount points, its own layer.

        Raises NotFound where there is no writable layer, or where its image is gone.
        """
        image = self._store.get(image_id)
        below = self._sources(image)
        spec = self._snapshots.root_spec(identifier)
        number = len(image.diff_ids)
        stack = self._stack(image)
        sources = below
        if spec.lowers:
            sources = [Source(number + 1, spec.lowers[0]), *below]
            deeds = deeds_of(sources[0], below)
            made = "mount points that every container gets"
            stack["layers"].append(_layer(number + 1, "init", made, 0, {**deeds, "wasted": 0}))
            number += 1
        upper = self._snapshots.upper(identifier)
        own = Source(number + 1, upper, whole=not spec.lowers)
        deeds = self._whole(identifier) if own.whole else deeds_of(own, sources)
        size = self._snapshots.size(identifier)
        said = "written by the container"
        stack["layers"].append(_layer(own.number, "writable", said, size, deeds))
        return {
            "kind": "container",
            "name": name,
            **stack,
            "folders": _folders([own, *sources], folders),
        }

    def compare(self, one: str, other: str) -> Json:
        """Two images: how many of the lowest layers are the same, and which files differ."""
        from labkit.host.image.layercompare import compare

        left, right = self._store.get(one), self._store.get(other)
        shared = 0
        for mine, theirs in zip(left.diff_ids, right.diff_ids, strict=False):
            if mine != theirs:
                break
            shared += 1
        sources = self._sources(left), self._sources(right)
        kept = {source.path for source in sources[0]} & {source.path for source in sources[1]}
        same = min(
            sum(1 for source in side if source.number <= shared and source.path in kept)
            for side in sources
        )
        return {
            "name": other,
            **self._stack(right),
            "shared": shared,
            "differences": compare(*sources, same),
        }

    # -- below -----------------------------------------------------------------------------

    def _sources(self, image: Image) -> list[Source]:
        """Topmost first; a layer that is stacked twice counts at its topmost place."""
        numbered = {path: n for n, path in enumerate(self._store.layer_paths(image), start=1)}
        return sorted((Source(n, path) for path, n in numbered.items()), key=lambda s: -s.number)

    def _stack(self, image: Image) -> Json:
        made = _made_by(image)
        chains = chain_ids(image.diff_ids)
        deeds = self._image_deeds(image)
        layers = []
        for number, diff_id in enumerate(image.diff_ids, start=1):
            row = self._store.index.layer(diff_id)
            size = row.size if row is not None else 0
            layer = _layer(number, "image", made.get(number, ""), size, deeds[number - 1])
            layer["diff_id"], layer["chain_id"] = diff_id, chains[number - 1]
            layer["blobs"] = [
                {"digest": blob.digest, "media_type": blob.media_type, "bytes": blob.size}
                for blob in self._store.index.layer_blobs(diff_id)
            ]
            layers.append(layer)
        return {
            "image": {
                "id": image.id,
                "tags": list(image.repo_tags),
                "digests": list(image.repo_digests),
                "bytes": image.size,
                "stand_in": image.origin == "stand-in",
            },
            "layers": layers,
            "steps": _steps(image),
        }

    def _image_deeds(self, image: Image) -> list[Json]:
        key = tuple(image.diff_ids)
        kept = self._deeds.get(key)
        if kept is not None:
            self._deeds.move_to_end(key)
            return kept
        sources = self._sources(image)
        by_number = {
            source.number: deeds_of(source, sources[position + 1 :])
            for position, source in enumerate(sources)
        }
        found = [
            by_number.get(number, {**_NOTHING, "complete": True, "deeds": []})
            for number in range(1, len(image.diff_ids) + 1)
        ]
        self._deeds[key] = found
        while len(self._deeds) > _KEPT_IMAGES:
            self._deeds.popitem(last=False)
        return found

    def _whole(self, identifier: str) -> Json:
        """What a container did whose root is a whole copy: from the comparison of the trees."""
        from labkit.host.image.changes import ADDED, CHANGED

        words = {ADDED: "added", CHANGED: "replaced"}
        deeds: list[Json] = []
        with self._snapshots.view(identifier) as tree:
            for change in self._snapshots.changes(identifier):
                how = words.get(change.kind, "deleted")
                size, kind = 0, "file"
                if how != "deleted":
                    found = tree.lookup(change.path, follow=False)
                    if found.is_folder:
                        continue
                    size = found.stat.st_size
                row = {"path": change.path, "kind": kind, "bytes": size, "how": how, "hides": []}
                deeds.append(row)
        counts = {how: sum(1 for one in deeds if one["how"] == how) for how in words.values()}
        gone = sum(1 for one in deeds if one["how"] == "deleted")
        files = counts["added"] + counts["replaced"]
        rest = {"files": files, "wasted": 0, "complete": True, "deeds": deeds[:400]}
        return {**counts, "deleted": gone, **rest}


def _folders(sources: Sequence[Source], wanted: Sequence[str]) -> Json:
    found = {}
    for path in wanted:
        try:
            found[path] = folder_entries(sources, path)
        except (NotFound, FileNotFoundError, NotADirectoryError) as error:
            # It was there when somebody opened it: the picture says so instead of failing.
            found[path] = {"path": path, "entries": [], "left_out": 0, "error": str(error)}
    return found


def _layer(number: int, kind: str, made: str, size: int, deeds: Mapping[str, Any]) -> Json:
    return {
        "number": number,
        "kind": kind,
        "instruction": made,
        "bytes": size,
        "diff_id": "",
        "chain_id": "",
        "blobs": [],
        **deeds,
    }


def _made_by(image: Image) -> dict[int, str]:
    return {step["layer"]: step["instruction"] for step in _steps(image) if step["layer"]}


def _steps(image: Image) -> list[Json]:
    """Every step of the history, oldest first; `layer` is 0 for one that made none."""
    steps: list[Json] = []
    number = 0
    for step in image.config.get("history") or []:
        makes = not step.get("empty_layer") and number < len(image.diff_ids)
        number += bool(makes)
        said = instruction(str(step.get("created_by", "")))
        steps.append(
            {
                "instruction": said,
                "comment": str(step.get("comment", "")),
                "layer": number if makes else 0,
            }
        )
    return steps
