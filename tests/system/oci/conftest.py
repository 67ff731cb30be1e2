"""What the tests of labkit-oci share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from oci_kit import Runtime, runtime


@pytest.fixture
def oci(short_tmp: Path) -> Iterator[Runtime]:
    """labkit-oci on a bundle of its own; asserts that nothing is left of it."""
    if shutil.which("busybox") is None:
        pytest.skip("busybox is missing (Debian package busybox-static)")
    with runtime(short_tmp) as made:
        yield made
