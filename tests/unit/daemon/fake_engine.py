"""An engine with canned containers, for testing the HTTP layer without a kernel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from labkit.base.errors import NotFound, NotModified, StartFailure


class FakeSession:
    """Echoes its input, then says goodbye, like `cat` with a last word."""

    def __init__(self, *, tty: bool = False) -> None:
        self.reader = asyncio.StreamReader()
        self.tty = tty
        self.closed = False
        self.writer = self

    def write(self, data: bytes) -> None:
        self.reader.feed_data(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def write_eof(self) -> None:
        self.reader.feed_data(b"bye")
        self.reader.feed_eof()

    async def close(self) -> None:
        self.closed = True


class FakeLogs:
    """Endless lines; `closed` tells that the API let go of it."""

    tty = False

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0.001)
        return b"\x01\x00\x00\x00\x00\x00\x00\x02a\n"

    async def aclose(self) -> None:
        self.closed.set()


class FakeEngine:
    """Knows one container, `web`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.sessions: list[FakeSession] = []
        self.logs: list[FakeLogs] = []
        self.attached = asyncio.Event()
        self.exits: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def first_session(self) -> FakeSession:
        await self.attached.wait()
        return self.sessions[0]

    def _known(self, reference: str) -> None:
        if reference != "web":
            raise NotFound(f"No such container: {reference}")

    def version(self) -> dict[str, Any]:
        return {"Version": "fake", "ApiVersion": "1.50"}

    async def info(self) -> dict[str, Any]:
        return {"ID": "fake"}

    async def container_create(self, body: Any, **options: Any) -> dict[str, Any]:
        self.asked.append(("create", (body, options)))
        return {"Id": "f" * 64, "Warnings": []}

    async def container_list(self, **options: Any) -> list[Any]:
        self.asked.append(("list", options))
        return []

    async def container_inspect(self, reference: str, *, size: bool = False) -> dict[str, Any]:
        self._known(reference)
        return {"Id": "f" * 64, "Size": size}

    async def container_start(self, reference: str) -> None:
        if reference == "running":
            raise NotModified("it runs")
        if reference == "broken":
            raise StartFailure("exec: no such file or directory")
        if reference == "slow":
            await asyncio.sleep(0.05)
            self.asked.append(("started", reference))
            return
        self._known(reference)

    async def container_stop(self, reference: str, **options: Any) -> None:
        self._known(reference)
        self.asked.append(("stop", options))

    async def container_wait(self, reference: str, *, condition: str) -> Any:
        self._known(reference)
        self.asked.append(("wait", condition))
        return self.exits

    async def container_attach(self, reference: str, **options: Any) -> FakeSession:
        self._known(reference)
        self.asked.append(("attach", options))
        self.sessions.append(FakeSession())
        self.attached.set()
        return self.sessions[-1]

    async def container_logs(self, reference: str, **options: Any) -> FakeLogs:
        self._known(reference)
        self.asked.append(("logs", options))
        self.logs.append(FakeLogs())
        return self.logs[-1]

    async def container_rename(self, reference: str, new_name: str) -> None:
        raise RuntimeError("a defect of ours")

    async def image_inspect(self, reference: str) -> dict[str, Any]:
        return {"Id": reference}

    async def image_pull(self, reference: str, **options: Any) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(("pull", (reference, options)))

        async def lines() -> AsyncIterator[dict[str, Any]]:
            if "missing" in reference:
                raise NotFound(f"pull access denied for {reference}")
            yield {"status": "Pulling"}
            if "torn" in reference:
                raise NotFound("the layer is gone")

        return lines()
