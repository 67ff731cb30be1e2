"""Escapes run on the same small host as the system tests of the isolation core."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "system" / "isolation"))

from isolation_fixtures import *  # noqa: E402, F403
from isolation_kit import make_rootfs  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture
def image(short_tmp: Path) -> Path:
    """A root a test may spoil as a hostile image would."""
    return make_rootfs(short_tmp / "image")


@pytest.fixture(scope="session")
def armed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with `rawcall NUMBER ARGS…`, which makes one system call and prints its errno."""
    if shutil.which("cc") is None:
        pytest.skip("cc is missing")
    root = make_rootfs(tmp_path_factory.mktemp("armed") / "rootfs")
    target = root / "bin" / "rawcall"
    subprocess.run(["cc", "-O1", "-static", "-o", target, HERE / "rawcall.c"], check=True)
    return root
