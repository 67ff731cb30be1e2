"""A host of its own for each test, with busybox; a build must leave nothing but images."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from builder_site import Site
from engine_lab import open_lab

from labkit.base.paths import LabPaths
from labkit.host.engine.builds import build_ports
from labkit.host.image.pull import pull

HAS_BUSYBOX = Path("/bin/busybox").exists()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture
async def site(lab_paths: LabPaths) -> AsyncIterator[Site]:
    if not HAS_BUSYBOX:
        pytest.skip("busybox is missing (Debian package busybox-static)")
    lab = await open_lab(lab_paths, lab_paths.home / "none")
    async for _ in pull(lab.images, "busybox"):
        pass
    found = Site(lab, build_ports(lab.engine.context))
    yield found
    await lab.remove_all()
    lab.images.layers.drain()
    assert not found.leftovers()
    await lab.close()
    assert lab.runtime.cgroups.close()
