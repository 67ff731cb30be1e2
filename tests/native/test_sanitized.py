"""The C core's own tests, built with ASan and UBSan."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "native"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("cmake", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing")
    folder = tmp_path_factory.mktemp("sanitized")
    for command in (
        ["cmake", "-S", SOURCE, "-B", folder, "-DLABKIT_SANITIZE=ON"],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("subject", ["wire", "log", "path"])
def test_the_core_reads_and_writes_within_bounds(build: Path, subject: str) -> None:
    program = build / "tests" / f"test_{subject}"
    done = subprocess.run([program], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
