"""Addresses of members: a unix socket's path, or a port, perhaps in another network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["SocketMaker", "TcpPlace", "UnixPlace"]

SocketMaker = Callable[[], socket.socket]
"""Makes a stream socket; it belongs to the network namespace in which it is made."""


class UnixPlace:
    """A socket in the file system, for its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """Serve there; what an earlier process left is replaced."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(self.path))
            self.path.chmod(0o600)
        except BaseException:
            sock.close()
            raise
        return await asyncio.get_running_loop().create_unix_server(factory, sock=sock)

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> Any:
        """Connect to there."""
        return await asyncio.get_running_loop().create_unix_connection(factory, str(self.path))


class TcpPlace:
    """A TCP port, 2377 for swarm managers (course-facts: "Manager Addresses …:2377")."""

    def __init__(self, host: str, port: int, listener: SocketMaker, caller: SocketMaker) -> None:
        """`listener` makes the socket to listen on, `caller` the one to connect with."""
        self.host = host
        self.port = port
        self._listener = listener
        self._caller = caller

    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """Serve there."""
        sock = self._listener()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        return await asyncio.get_running_loop().create_server(factory, sock=sock)

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> Any:
        """Connect to there. What stays unanswered for five seconds has failed."""
        loop = asyncio.get_running_loop()
        sock = self._caller()
        try:
            sock.setblocking(False)
            async with asyncio.timeout(5):
                await loop.sock_connect(sock, (self.host, self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A cut wire must not hold messages back for minutes once it is mended.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
            return await loop.create_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise
