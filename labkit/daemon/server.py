"""The daemon once its libraries are there: open the lab, serve its sockets, end in order.

SIGTERM and SIGINT end the daemon and nothing else: containers keep running in their shims and
are found again by the next daemon. Taking the lab down is a request (`POST /v1/shutdown`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
from collections.abc import Mapping

from aiohttp import web

from labkit.base.paths import LabPaths
from labkit.daemon.docker_api import build_docker_app
from labkit.daemon.doorman import Doorman
from labkit.daemon.ground import Ground
from labkit.daemon.lab import Lab
from labkit.daemon.lab_api import build_lab_app

__all__ = ["serve"]

_LOG = logging.getLogger("labkit.daemon")

# Streams that clients still read (logs -f, events) are cut when the daemon ends; answers that are
# being written get this long.
_FAREWELL_S = 0.5
# Credentials travel in header fields, filters in the request line: both outgrow aiohttp's 8 kB.
_LINE_BYTES_MAX = 1 << 16
_M_ARENA_MAX = -8
_PR_SET_NAME = 15


def serve(
    paths: LabPaths, ground: Ground, doorman: Doorman, listeners: Mapping[str, socket.socket]
) -> int:
    """Serve until told to stop; the exit code. Raises LabkitError when the lab cannot be opened."""
    _settle()
    with asyncio.Runner() as runner:
        runner.run(_run(paths, ground, doorman, listeners))
    return 0


def _settle() -> None:
    """Keep glibc from giving every worker thread an arena of its own (mallopt(3)), and be called
    labkitd in process lists (prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.prctl(_PR_SET_NAME, b"labkitd", 0, 0, 0)


async def _run(
    paths: LabPaths, ground: Ground, doorman: Doorman, listeners: Mapping[str, socket.socket]
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.set_exception_handler(_log_stray)
    lab = await Lab.open(paths, ground, stop=ended.set)
    apps = {"docker": build_docker_app(lab.engine), "lab": build_lab_app(lab)}
    runners: list[web.AppRunner] = []
    try:
        waiting = doorman.hand_over()
        for name, app in apps.items():
            runner = web.AppRunner(
                app,
                access_log=None,
                handle_signals=False,
                handler_cancellation=True,
                shutdown_timeout=_FAREWELL_S,
                # A pipe to a container may be silent for a day; the kernel says when it breaks.
                tcp_keepalive=False,
                max_line_size=_LINE_BYTES_MAX,
                max_field_size=_LINE_BYTES_MAX,
            )
            runners.append(runner)
            await runner.setup()
            await web.SockSite(runner, listeners[name]).start()
            server = runner.server
            assert server is not None
            for connection in waiting[listeners[name]]:
                with contextlib.suppress(OSError):
                    await loop.connect_accepted_socket(server, connection)
        _LOG.info("serving as pid %d, mode %s", os.getpid(), lab.mode)
        await ended.wait()
        _LOG.info("ending")
    finally:
        # Nobody may find a socket that will not answer.
        for path in (paths.docker_socket, paths.lab_socket):
            with contextlib.suppress(OSError):
                path.unlink()
        await asyncio.gather(*(runner.cleanup() for runner in runners), return_exceptions=True)
        await lab.close()


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Exceptions that no task waits for: a client that went away is not worth a word."""
    error = context.get("exception")
    if isinstance(error, ConnectionError):
        return
    _LOG.error(
        "%s", context.get("message"), exc_info=error if isinstance(error, Exception) else None
    )
