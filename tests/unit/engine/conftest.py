"""A host over fakes, closed after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_fakes import World, open_world

from labkit.base.paths import LabPaths


@pytest.fixture
async def world(lab_paths: LabPaths) -> AsyncIterator[World]:
    found = await open_world(lab_paths)
    yield found
    await found.engine.close()
