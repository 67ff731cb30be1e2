"""From the machine's loopback into a lab host: a proxy of sockets born in two namespaces.

The listening socket belongs to the machine's namespace, the connecting ones to the lab host's, so
no route and no rule joins the two. What the container sees is a connection from its gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from labkit.host.network.plumbing import Plumbing

__all__ = ["Proxy", "TcpProxy", "UdpProxy", "open_proxy", "port_holder", "relay"]

_PIECE = 1 << 18
_CONNECT_S = 10.0
_UDP_IDLE_S = 60.0
_UDP_CLIENTS_MAX = 256


class Proxy(Protocol):
    """One listening port."""

    port: int
    """The number it listens on, chosen by the kernel when 0 was asked for."""

    async def close(self) -> None: ...


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def open_proxy(
    protocol: str, listen: tuple[str, int], target: tuple[str, int], plumbing: Plumbing
) -> Proxy:
    """Listen on the machine's `listen` and pass on to `target` inside the lab host.

    Raises OSError when the address is taken or may not be used.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    handle = socket.socket(_family(listen[0]), kind | socket.SOCK_NONBLOCK)
    try:
        if ":" in listen[0]:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        handle.bind(listen)
        if kind == socket.SOCK_STREAM:
            handle.listen(128)
    except BaseException:
        handle.close()
        raise
    if kind == socket.SOCK_DGRAM:
        return UdpProxy(handle, target, plumbing)
    return TcpProxy(handle, target, plumbing)


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the source ends, then end the sink's direction too."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, _PIECE):
            await loop.sock_sendall(sink, data)
    finally:
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


async def relay(one: socket.socket, other: socket.socket) -> None:
    """Both directions until both have ended, or one breaks; half-closed connections go on."""
    with contextlib.suppress(OSError):
        async with asyncio.TaskGroup() as group:
            group.create_task(_quietly(one, other))
            group.create_task(_quietly(other, one))


async def _quietly(source: socket.socket, sink: socket.socket) -> None:
    try:
        await _pump(source, sink)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class TcpProxy:
    """One listening TCP port."""

    def __init__(self, handle: socket.socket, target: tuple[str, int], plumbing: Plumbing) -> None:
        self._handle = handle
        self.port: int = handle.getsockname()[1]
        self._target = target
        self._plumbing = plumbing
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(handle.fileno(), self._acceptable)

    def _acceptable(self) -> None:
        for _ in range(64):
            try:
                connection, _ = self._handle.accept()
            except OSError:
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                inner = await self._plumbing.socket(
                    None, _family(self._target[0]), socket.SOCK_STREAM
                )
            except OSError:
                return
            with inner:
                try:
                    async with asyncio.timeout(_CONNECT_S):
                        await self._loop.sock_connect(inner, self._target)
                except (OSError, TimeoutError):
                    # Refused inside is refused outside: a reset, not an empty answer.
                    with contextlib.suppress(OSError):
                        connection.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                    return
                for end in (connection, inner):
                    with contextlib.suppress(OSError):
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await relay(connection, inner)

    async def close(self) -> None:
        """Stop listening and end what is open."""
        self._loop.remove_reader(self._handle.fileno())
        self._handle.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class UdpProxy:
    """One UDP port; each client has a socket of its own inside, kept while he talks."""

    def __init__(self, handle: socket.socket, target: tuple[str, int], plumbing: Plumbing) -> None:
        self._handle = handle
        self.port: int = handle.getsockname()[1]
        self._target = target
        self._plumbing = plumbing
        self._loop = asyncio.get_running_loop()
        self._clients: dict[tuple[str, int], tuple[socket.socket, float]] = {}
        self._opening: dict[tuple[str, int], list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(handle.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data, client = self._handle.recvfrom(65535)
            except OSError:
                return
            found = self._clients.get(client[:2])
            if found is not None:
                self._clients[client[:2]] = (found[0], time.monotonic())
                with contextlib.suppress(OSError):
                    found[0].send(data)
                continue
            waiting = self._opening.get(client[:2])
            if waiting is not None:
                if len(waiting) < 64:
                    waiting.append(data)
                continue
            self._opening[client[:2]] = [data]
            task = self._loop.create_task(self._open(client[:2]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, client: tuple[str, int]) -> None:
        try:
            if len(self._clients) >= _UDP_CLIENTS_MAX:
                self._expire(0)
            inner = await self._plumbing.socket(None, _family(self._target[0]), socket.SOCK_DGRAM)
            try:
                inner.connect(self._target)
            except OSError:
                inner.close()
                return
            self._clients[client] = (inner, time.monotonic())
            self._loop.add_reader(inner.fileno(), self._answer, inner, client)
            for data in self._opening.get(client, ()):
                with contextlib.suppress(OSError):
                    inner.send(data)
        finally:
            self._opening.pop(client, None)
        self._expire(_UDP_IDLE_S)

    def _answer(self, inner: socket.socket, client: tuple[str, int]) -> None:
        try:
            data = inner.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            return  # nobody listens inside: the error has been taken, the socket goes on
        self._clients[client] = (inner, time.monotonic())
        with contextlib.suppress(OSError):
            self._handle.sendto(data, client)

    def _expire(self, idle_s: float) -> None:
        """Forget clients that have been silent; with 0 the one silent for longest."""
        now = time.monotonic()
        old = [key for key, (_, seen) in self._clients.items() if now - seen > idle_s]
        if not idle_s:
            old = sorted(self._clients, key=lambda key: self._clients[key][1])[:1]
        for client in old:
            inner, _ = self._clients.pop(client)
            self._loop.remove_reader(inner.fileno())
            inner.close()

    async def close(self) -> None:
        """Stop listening and forget every client."""
        self._loop.remove_reader(self._handle.fileno())
        self._handle.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for inner, _ in self._clients.values():
            self._loop.remove_reader(inner.fileno())
            inner.close()
        self._clients.clear()


def port_holder(protocol: str, port: int) -> str:
    """Which process of this machine listens on a port: `nginx (pid 12)`; empty if not seen."""
    inodes = set()
    for name in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        with contextlib.suppress(OSError), open(name, encoding="ascii") as file:
            for line in file.readlines()[1:]:
                words = line.split()
                is_listening = words[3] == "0A" or protocol == "udp"
                if is_listening and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    if not inodes:
        return ""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        with contextlib.suppress(OSError):
            for handle in os.listdir(f"/proc/{entry}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{entry}/fd/{handle}") in inodes:
                        with open(f"/proc/{entry}/comm", encoding="utf-8") as file:
                            return f"{file.read().strip()} (pid {entry})"
    return ""
