"""A fresh host for each test, over one busybox; it must leave nothing behind."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from network_lab import NetworkLab, open_network_lab

from labkit.base.paths import LabPaths
from labkit.host.image.pull import pull
from labkit.host.image.store import ImageStore
from labkit.host.isolation.anchor import stop_anchor

BUSYBOX = Path("/bin/busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def network_image_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds busybox."""
    import asyncio

    if not BUSYBOX.exists():
        pytest.skip("busybox is missing (Debian package busybox-static)")
    root = tmp_path_factory.mktemp("images")

    async def fetch() -> None:
        store = ImageStore(root)
        async for _ in pull(store, "busybox"):
            pass
        store.close()

    asyncio.run(fetch())
    return root


@pytest.fixture
async def lab(lab_paths: LabPaths, network_image_store: Path) -> AsyncIterator[NetworkLab]:
    """A host in namespaces of its own."""
    before = set(os.listdir("/proc/self/fd"))
    found = await open_network_lab(lab_paths, network_image_store)
    try:
        yield found
        await found.remove_all()
        links = await found.host_links()
        assert sorted(links) == ["docker0", "eth0", "lo"] or sorted(links) == ["docker0", "lo"]
        assert found.engine.context.networks.plumbing is not None
        await found.engine.context.networks.way_out.take_down()
    finally:
        await found.close()
        stop_anchor(lab_paths)
        found.close_namespaces()
    assert f"lk-{lab_paths.instance}" not in os.listdir("/sys/class/net")
    after = set(os.listdir("/proc/self/fd"))
    assert len(after) <= len(before) + 1
