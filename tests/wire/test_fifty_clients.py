"""Fifty clients at once for two minutes: create, start, exec, logs, remove, over and over."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.wire.conftest import Lab

CLIENTS = 50
SECONDS = float(os.environ.get("LABKIT_SOAK_S", "120"))


class Client:
    """One client's connection and how long each of its requests took."""

    def __init__(self, session: aiohttp.ClientSession, took: dict[str, list[float]]) -> None:
        self._session = session
        self._took = took

    async def ask(self, what: str, method: str, path: str, body: Any = None) -> bytes:
        began = time.perf_counter()
        async with self._session.request(method, f"http://lab{path}", json=body) as answer:
            data = await answer.read()
            assert answer.status < 400, f"{what}: {answer.status} {data!r}"
        self._took.setdefault(what, []).append(time.perf_counter() - began)
        return data

    async def json(self, what: str, method: str, path: str, body: Any = None) -> Any:
        import json

        return json.loads(await self.ask(what, method, path, body))

    async def round(self, word: str) -> None:
        """One container from beginning to end; what it prints must come back."""
        script = f"echo {word}; sleep 1d"
        host = {"NetworkMode": "none", "AutoRemove": False}
        body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": host}
        box = (await self.json("create", "POST", "/containers/create", body))["Id"]
        await self.ask("start", "POST", f"/containers/{box}/start")
        command = {"Cmd": ["echo", word[::-1]], "AttachStdout": True}
        process = (await self.json("exec create", "POST", f"/containers/{box}/exec", command))["Id"]
        output = await self.ask("exec", "POST", f"/exec/{process}/start", {})
        assert output[8:] == f"{word[::-1]}\n".encode()
        logs = b""
        while not logs:
            logs = await self.ask("logs", "GET", f"/containers/{box}/logs?stdout=1")
        assert logs[8:] == f"{word}\n".encode()
        await self.ask("inspect", "GET", f"/containers/{box}/json")
        await self.ask("remove", "DELETE", f"/containers/{box}?force=1")

    async def leave_in_the_middle(self, word: str) -> None:
        """Follow a log and hang up."""
        body = {"Image": "busybox", "Cmd": ["sleep", "1d"], "HostConfig": {"NetworkMode": "none"}}
        box = (await self.json("create", "POST", "/containers/create", body))["Id"]
        await self.ask("start", "POST", f"/containers/{box}/start")
        path = random.choice(("logs?follow=1&stdout=1", "stats", "top"))
        answer = await self._session.get(f"http://lab/containers/{box}/{path}")
        answer.close()
        await self.ask("remove", "DELETE", f"/containers/{box}?force=1")
        assert word


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 180)
async def test_fifty_clients_for_two_minutes_without_an_error_or_a_leak(clean_lab: Lab) -> None:
    assert clean_lab.process is not None
    pid = clean_lab.process.pid
    took: dict[str, list[float]] = {}
    before = descriptors(pid)
    ends = time.monotonic() + SECONDS
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        connector = aiohttp.UnixConnector(path=str(clean_lab.paths.docker_socket))
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            client = Client(session, took)
            turn = 0
            while time.monotonic() < ends:
                turn += 1
                await client.round(f"word-{number}-{turn}")
                if turn % 5 == number % 5:
                    await client.leave_in_the_middle("bye")
                done += 1

    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    assert clean_lab.ok("ps", "-aq") == ""
    deadline = time.monotonic() + 30
    while descriptors(pid) > before + 8:
        assert time.monotonic() < deadline, f"{descriptors(pid)} descriptors, {before} before"
        await asyncio.sleep(0.1)
    data = clean_lab.paths.host_data()
    assert not os.listdir(data / "containers")
    print(f"\n{done} rounds by {CLIENTS} clients; daemon {resident_mb(pid):.1f} MB")
    for what, values in took.items():
        ordered = sorted(values)
        p99 = ordered[int(len(ordered) * 0.99)]
        median = statistics.median(ordered)
        print(
            f"  {what:12} {len(values):6}  median {median * 1e3:7.1f} ms  p99 {p99 * 1e3:7.1f} ms"
        )
