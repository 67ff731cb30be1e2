"""Docker's rule for "Using cache": a child of the parent image, made by the same step, that
resulted in the configuration this step would result in.

The step's words name everything that decides about its result: a RUN's command and build
arguments, a COPY's file hashes and destination. The parent stands for everything before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labkit.host.image.commit import add_layer
from labkit.host.image.digests import canonical_json
from labkit.host.image.model import Image, parse_time
from labkit.host.image.standins.machine import architecture
from labkit.host.image.store import ImageStore

__all__ = ["BuildCache"]


class BuildCache:
    """Looks for results of earlier builds; `sources` are the images of --cache-from."""

    def __init__(
        self, store: ImageStore, *, enabled: bool = True, sources: Sequence[Image] = ()
    ) -> None:
        self._store = store
        self._enabled = enabled
        self._sources = tuple(sources)

    def find(
        self,
        parent: Image | None,
        created_by: str,
        config: Mapping[str, Any],
        epoch_s: int | None,
        platform: str = "",
    ) -> Image | None:
        """The newest image that this step made of `parent` before; without one, for `platform`."""
        if not self._enabled:
            return None
        wanted = canonical_json(config)
        if self._sources:
            return self._from_sources(parent, created_by, wanted, platform)
        best: Image | None = None
        for child in self._children(parent):
            if parent is None and not _is_for(child.config, platform):
                continue
            if child.origin != "build" or not _is_step(parent, child, created_by):
                continue
            if canonical_json(child.defaults) != wanted:
                continue
            if epoch_s is not None and child.created_ns > epoch_s * 1_000_000_000:
                continue
            if best is None or child.created_ns > best.created_ns:
                best = child
        return best

    def _children(self, parent: Image | None) -> list[Image]:
        if parent is None:
            return [image for image in self._store.images(all=True) if not image.parent]
        found = (self._store.find_id(child) for child in self._store.index.children(parent.id))
        return [self._store.get(child) for child in found if child]

    def _from_sources(
        self, parent: Image | None, created_by: str, wanted: bytes, platform: str
    ) -> Image | None:
        """A step of a --cache-from image becomes an image of its own, made of its layers."""
        before = list(parent.config.get("history") or []) if parent is not None else []
        layers = len(parent.diff_ids) if parent is not None else 0
        for source in self._sources:
            if parent is None and not _is_for(source.config, platform):
                continue
            history = source.config.get("history") or []
            if len(history) <= len(before) or not _same_steps(before, history):
                continue
            if parent is not None and source.diff_ids[:layers] != parent.diff_ids:
                continue
            step = history[len(before)]
            if step.get("created_by") != created_by:
                continue
            if len(history) == len(before) + 1 and canonical_json(source.defaults) == wanted:
                return source
            return self._taken(source, parent, step, layers, wanted, platform)
        return None

    def _taken(
        self,
        source: Image,
        parent: Image | None,
        step: Mapping[str, Any],
        layers: int,
        wanted: bytes,
        platform: str,
    ) -> Image | None:
        import json

        blob = None
        if not step.get("empty_layer"):
            if layers >= len(source.diff_ids):
                return None
            blobs = self._store.index.layer_blobs(source.diff_ids[layers])
            if not blobs:
                return None
            blob = blobs[0]
        found = add_layer(
            self._store,
            parent,
            blob,
            defaults=json.loads(wanted),
            created_by=str(step.get("created_by", "")),
            parent=parent.id if parent is not None else "",
            created_ns=parse_time(step["created"]) if step.get("created") else 0,
            platform=platform,
        )
        return self._store.get(found)


def _is_for(config: Mapping[str, Any], platform: str) -> bool:
    """Whether an image is for a platform; "" is this machine's."""
    wanted = [*(platform or f"linux/{architecture()}").split("/"), ""][:3]
    found = [str(config.get(key) or "") for key in ("os", "architecture", "variant")]
    return found[: len(wanted)] == wanted


def _is_step(parent: Image | None, child: Image, created_by: str) -> bool:
    history = child.config.get("history") or []
    before = len(parent.config.get("history") or []) if parent is not None else 0
    return len(history) == before + 1 and history[-1].get("created_by") == created_by


def _same_steps(before: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> bool:
    return all(
        one.get("created_by") == other.get("created_by")
        and bool(one.get("empty_layer")) == bool(other.get("empty_layer"))
        for one, other in zip(before, history, strict=False)
    )
