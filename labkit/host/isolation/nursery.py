"""Shims that are ready before they are needed: the daemon's side of native/nursery.h.

One small process per lab host forks them on request, and one or two wait at any time. Each holds a
socket whose other end is here; sending it a spec makes it a container's shim. They end when this
end is closed, and with the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.base.errors import SystemFailure
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.native import Program, spawn
from labkit.host.isolation.spec import HostNamespaces

__all__ = ["Nursery", "ReadyShim"]

_SETUP = struct.Struct("=IIII")
_REQUEST = struct.Struct("=I")
_REPLY = struct.Struct("=ii")
_PROTOCOL = 1
_CONTAINER = 1
# A shim writes its own words over the nursery's, as many bytes: `shim` and twelve of an id.
_ARGUMENTS = ("labkit-shim", "nursery", "--waits--")


class _NurseryEnded(SystemFailure):
    """It was killed before it answered."""


@dataclass(frozen=True, slots=True)
class ReadyShim:
    """A shim that waits for a spec on `link`'s other end. Its taker owns both descriptors."""

    link: socket.socket
    pid: int
    pidfd: int

    def begin(self, fds: Sequence[int]) -> None:
        """Hand over the spec and the descriptors it names. Raises OSError when it is gone."""
        socket.send_fds(self.link, [b"s"], list(fds))

    def close(self) -> None:
        self.link.close()
        os.close(self.pidfd)


def _has_ended(pidfd: int, wait_ms: int) -> bool:
    """Not select(2): a daemon with many containers has more descriptors than that can name."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(wait_ms))


class Nursery:
    """Started by the first `take`; belongs to the loop that this is called on."""

    def __init__(
        self, program: Program, host: HostNamespaces | None, cgroups: CgroupDriver
    ) -> None:
        self._program = program
        self._host = host
        self._cgroups = cgroups
        self._link: socket.socket | None = None
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: dict[bool, deque[ReadyShim]] = {True: deque(), False: deque()}
        # In the order in which the replies will come: which kind, and who waits for it.
        self._asked: deque[tuple[bool, asyncio.Future[ReadyShim] | None]] = deque()
        self._wanted: set[bool] = set()

    @property
    def pids(self) -> list[int]:
        """The nursery and those that wait: processes that are nobody's container."""
        waiting = [shim.pid for kind in self._ready.values() for shim in kind]
        return [self._pid, *waiting] if self._pid else []

    async def take(self, *, container: bool) -> ReadyShim:
        """A shim for the caller, with a network namespace and groups made ahead if `container`.

        Raises SystemFailure when none can be started.
        """
        self._wanted.add(container)
        while self._ready[container]:
            shim = self._ready[container].popleft()
            if not _has_ended(shim.pidfd, 0):
                return shim
            shim.close()
        ended: SystemFailure = _NurseryEnded("cannot start a shim")
        for _ in range(3):
            waiter: asyncio.Future[ReadyShim] = asyncio.get_running_loop().create_future()
            self._ask(container, waiter)
            try:
                return await waiter
            except _NurseryEnded as error:  # killed; it held nothing that the next one lacks
                ended = error
        raise ended

    def warm(self) -> None:
        """Have one of each kind ready from now on."""
        self._wanted.update((True, False))
        self.refill()

    def refill(self) -> None:
        """Have one of each kind ready that has been asked for before; does not wait."""
        for container in self._wanted:
            coming = any(kind is container and waiter is None for kind, waiter in self._asked)
            if not self._ready[container] and not coming:
                with contextlib.suppress(SystemFailure):
                    self._ask(container, None)

    def _ask(self, container: bool, waiter: asyncio.Future[ReadyShim] | None) -> None:
        for _ in range(2):
            link = self._link or self._start()
            try:
                link.send(_REQUEST.pack(_CONTAINER if container else 0))
            except OSError:
                self._lost()
            else:
                self._asked.append((container, waiter))
                return
        raise SystemFailure("cannot start a shim: the nursery ends as soon as it is started")

    def _start(self) -> socket.socket:
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as stack:
            stack.callback(ours.close)
            host = [] if self._host is None else [self._host.mnt, self._host.net]
            bases = self._cgroups.open_bases(stack)
            self._pid = spawn(self._program, _ARGUMENTS, [theirs.fileno()])
            unified = 1 if self._cgroups.version == 2 else 0
            setup = _SETUP.pack(_PROTOCOL, 1 if host else 0, len(bases), unified)
            socket.send_fds(ours, [setup], [*host, *bases])
            ours.setblocking(False)
            kept = ours.dup()
        kept.setblocking(False)
        self._link = kept
        self._loop.add_reader(kept.fileno(), self._readable)
        return kept

    def _readable(self) -> None:
        while self._link is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._link, _REPLY.size, 2)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if len(data) != _REPLY.size or not self._asked:
                self._lost()
                return
            container, waiter = self._asked.popleft()
            status, pid = _REPLY.unpack(data)
            if status < 0 or len(fds) != 2:
                if waiter is not None and not waiter.done():
                    waiter.set_exception(
                        SystemFailure(f"cannot start a shim: {os.strerror(-status)}")
                    )
                continue
            shim = ReadyShim(socket.socket(fileno=fds[0]), pid, fds[1])
            if waiter is not None and not waiter.done():
                waiter.set_result(shim)
            else:
                self._ready[container].append(shim)

    def _lost(self) -> None:
        """The nursery is gone; its waiting shims work as well as ever."""
        if self._link is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._link.fileno())
            self._link.close()
        self._link = None
        if self._pid:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0
        asked, self._asked = self._asked, deque()
        for _, waiter in asked:
            if waiter is not None and not waiter.done():
                waiter.set_exception(_NurseryEnded("cannot start a shim: the nursery has ended"))

    def close(self) -> None:
        """End the nursery and those that wait; returns when they are gone."""
        self._lost()
        for waiting in self._ready.values():
            while waiting:
                shim = waiting.popleft()
                shim.link.close()
                _has_ended(shim.pidfd, 1000)
                os.close(shim.pidfd)
