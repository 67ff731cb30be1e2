"""A registry in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from registry_kit import Pusher

from labkit.daemon.registry_api.app import build_registry_app
from labkit.daemon.registry_api.storage import Storage


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    app = build_registry_app(Storage(tmp_path / "registry"))
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
async def pusher(client: TestClient[Any, Any]) -> Pusher:
    return Pusher(client)
