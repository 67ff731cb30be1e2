"""Looks after the lab host's anchor: killed while the daemon lives, it is put back.

The daemon holds the host's namespaces open, so nothing in them is lost with the process that held
them too; what is lost is the pid by which `%%host` and boxes enter them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

from labkit.base.errors import LabkitError
from labkit.base.paths import LabPaths

if TYPE_CHECKING:
    from labkit.host.isolation.spec import HostNamespaces

__all__ = ["AnchorKeeper"]

_LOG = logging.getLogger("labkit.daemon")
_MOST = 5
_WITHIN_S = 60.0
"""Who kills it more often than that means it."""


class AnchorKeeper:
    """Watches from its making until `close`; belongs to the running loop."""

    def __init__(self, paths: LabPaths, node: str, host: HostNamespaces) -> None:
        self._paths, self._node, self._host = paths, node, host
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._restarts: list[float] = []
        self._restarting: asyncio.Task[None] | None = None
        self._closed = False
        self._watch()

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self._host.anchor_pid)
        except OSError:
            self._ended()
            return
        self._loop.add_reader(self._pidfd, self._ended)

    def _forget(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self) -> None:
        self._forget()
        if not self._closed:
            self._restarting = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        from labkit.host.isolation.anchor import restart_anchor

        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _WITHIN_S]
        if len(self._restarts) >= _MOST:
            _LOG.error(
                "the lab host's anchor was killed %d times within a minute and is left alone: "
                "`labkit down`, then `labkit up`",
                _MOST,
            )
            return
        self._restarts.append(now)
        _LOG.warning("the lab host's anchor (process %d) was killed", self._host.anchor_pid)
        try:
            await asyncio.to_thread(restart_anchor, self._paths, self._node, self._host)
        except (LabkitError, OSError) as error:
            _LOG.error(
                "the lab host's anchor cannot be put back: %s; containers run on, `%%%%host` and "
                "boxes need `labkit down` and `labkit up`",
                error,
            )
            return
        _LOG.warning("the anchor is process %d now", self._host.anchor_pid)
        if not self._closed:
            self._watch()

    async def close(self) -> None:
        """Watch no longer; the anchor lives on."""
        self._closed = True
        self._forget()
        if self._restarting is not None:
            await asyncio.gather(self._restarting, return_exceptions=True)
