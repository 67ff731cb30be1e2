"""Streams whose status has gone out already: a mistake is said in the stream, not after it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from labkit.base.errors import NotFound
from labkit.daemon.docker_api.streams import send_json_lines


async def _answer(error: Exception) -> list[dict[str, Any]]:
    async def lines() -> AsyncIterator[dict[str, Any]]:
        yield {"stream": "begun"}
        raise error

    async def handle(request: web.Request) -> web.StreamResponse:
        return await send_json_lines(request, lines(), in_band_errors=True)

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/")
        assert answer.status == 200
        return [json.loads(line) for line in (await answer.text()).splitlines()]


async def test_an_error_of_ours_is_the_last_line() -> None:
    assert (await _answer(NotFound("no such layer")))[-1]["error"] == "no such layer"


async def test_a_mistake_is_the_last_line_too_and_tells_nothing_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = await _answer(ValueError("a secret path"))
    assert said[0] == {"stream": "begun"}
    assert said[-1]["error"] == "internal error; labkit logs has the details"
    assert "a secret path" in caplog.text
