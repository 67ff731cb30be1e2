from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from labkit.daemon.docker_api import build_docker_app

from .fake_engine import FakeEngine


class Api:
    """A served application and a client for it."""

    def __init__(self, path: Path, engine: FakeEngine, session: aiohttp.ClientSession) -> None:
        self.path = path
        self.engine = engine
        self.session = session

    async def ask(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        json_body: Any = None,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, parsed JSON (or text), headers."""
        async with self.session.request(
            method, f"http://docker{path}", data=data, headers=headers, json=json_body
        ) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text), answer.headers
            except ValueError:
                return answer.status, text, answer.headers


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    engine = FakeEngine()
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        path = Path(folder) / "docker.sock"
        runner = web.AppRunner(
            build_docker_app(engine), access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            yield Api(path, engine, session)
        await runner.cleanup()
