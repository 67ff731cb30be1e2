"""Groups of managers for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.swarm.swarm_group import Group


@pytest.fixture
async def trio(short_tmp: Path) -> AsyncIterator[Group]:
    """Three members with disks."""
    group = Group(short_tmp, short_tmp, recorder=True)
    await group.start()
    yield group
    group.close()
