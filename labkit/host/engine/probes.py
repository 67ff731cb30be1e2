"""A health probe: an exec that is run to its end, with the beginning of what it prints."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from labkit.base.errors import LabkitError
from labkit.base.ids import new_id
from labkit.host.engine.container import Container
from labkit.host.engine.execmodel import Exec, ExecConfig
from labkit.host.engine.execs import check_container, launch_attached
from labkit.host.engine.sessions import Attachment

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["run_probe"]


async def run_probe(
    context: Context, container: Container, argv: tuple[str, ...], *, limit_bytes: int
) -> tuple[int, bytes]:
    """Run a health probe to its end: exit code and the first bytes of its output.

    Cancelling it (the probe's timeout) kills the process.
    """
    config = ExecConfig(cmd=argv, attach_stdout=True, attach_stderr=True)
    process = Exec(new_id(), container, config, started=True)
    words = process.words
    await context.container_event(container, f"exec_create: {words}", execID=process.id)
    async with container.lock:
        check_container(container)
        shim, session = await launch_attached(
            context, process, None, stdin=False, stdout=True, stderr=True
        )
    await context.container_event(container, f"exec_start: {words}", execID=process.id)
    try:
        output = await _collect(session, limit_bytes)
        status = await shim.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, LabkitError):
            await shim.signal(9)
        raise
    finally:
        await session.close()
    return status.code, output


async def _collect(session: Attachment, limit: int) -> bytes:
    """The payload of Docker's frames, cut at `limit`."""
    frames, output = bytearray(), bytearray()
    while piece := await session.reader.read(65536):
        frames += piece
        while len(frames) >= 8 and len(frames) >= 8 + (size := int.from_bytes(frames[4:8], "big")):
            if len(output) < limit:
                output += frames[8 : 8 + size]
            del frames[: 8 + size]
    return bytes(output[:limit])
