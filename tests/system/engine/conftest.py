"""One busybox for all tests here; a fresh host for each, which must leave nothing behind."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine_lab import Lab, open_lab

from labkit.base.paths import LabPaths
from labkit.host.image.pull import pull
from labkit.host.image.store import ImageStore

BUSYBOX = Path("/bin/busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def image_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def mounts(paths: LabPaths) -> list[str]:
    """Mount points below the lab's folder in this process's namespace."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.startswith(str(paths.home))]


def labs_processes(paths: LabPaths) -> list[str]:
    """Processes that hold something of this lab open as their root, folder or address."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if str(paths.home).encode() in (entry / "environ").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


@pytest.fixture
async def lab(lab_paths: LabPaths, image_store: Path) -> AsyncIterator[Lab]:
    found = await open_lab(lab_paths, image_store)
    yield found
    if found.engine.context.closing:
        found = await open_lab(lab_paths, image_store)
    await found.remove_all()
    data = lab_paths.host_data()
    assert not list((data / "containers").iterdir())
    assert not found.engine.context.ports.snapshots.containers()
    assert not found.runtime.cgroups.names()
    await found.close()
    assert found.runtime.cgroups.close()
    assert not mounts(lab_paths)
    assert not labs_processes(lab_paths)
