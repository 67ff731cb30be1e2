"""Stores for tests, with small images made of a few members."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.host.image.reference import parse
from labkit.host.image.store import ImageStore

MakeImage = Callable[..., str]


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    """No test of images leaves a descriptor open."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    """A fresh store, closed afterwards; nothing temporary may be left in it."""
    opened = ImageStore(tmp_path / "docker")
    yield opened
    opened.close()
    assert not os.listdir(tmp_path / "docker/blobs/ingest")
    assert not [name for name in os.listdir(tmp_path / "docker/overlay2") if "tmp" in name]


@pytest.fixture
def make_image() -> MakeImage:
    """make_image(store, "name:tag", layers=[archive, …], **config fields) → id"""

    def make(
        store: ImageStore,
        *names: str,
        layers: list[bytes],
        parent: str = "",
        created: str = "2024-05-01T10:00:00Z",
        **defaults: object,
    ) -> str:
        rows = [store.layers.unpack(io.BytesIO(data), None) for data in layers]
        config = {
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": defaults,
            "rootfs": {"type": "layers", "diff_ids": [row.diff_id for row in rows]},
            "history": [
                {"created": created, "created_by": f"step {number}"} for number in range(len(rows))
            ],
        }
        image_id = store.add_image(json.dumps(config).encode(), parent=parent)
        for name in names:
            store.set_tag(parse(name), image_id)
        return image_id

    return make
