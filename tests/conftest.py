"""What every test may ask for. Fixtures that start a lab live beside the tests that need one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.paths import LabPaths


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder whose name leaves room for socket addresses (108 bytes); pytest's own does not."""
    folder = Path(tempfile.mkdtemp(prefix="lk", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab_paths(short_tmp: Path) -> LabPaths:
    """The folders of a lab that belongs to one test."""
    paths = LabPaths(short_tmp / "home", short_tmp / "run")
    paths.prepare()
    return paths


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root, saying so, where the tests run as an ordinary user."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)
