"""The resolver at 127.0.0.11: who is called what on a container's networks.

Its sockets are made inside the container's namespace and served by the daemon's loop, so a
container needs no process and no rule for it. Names of the container's own networks are answered
from memory; anything else with a dot in it is asked of the resolvers outside. What has no dot and
is no name here does not exist anywhere, and is told so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from labkit.host.network import dnswire as wire
from labkit.host.network import nft
from labkit.host.network.netlink import Address

__all__ = ["ADDRESS", "DnsServer", "Forwarder", "NameLookup", "make_sockets", "make_sockets_aside"]

ADDRESS = "127.0.0.11"
PORT = 53
_LOG = logging.getLogger("labkit.network")
_BURST = 32
_FORWARDS_MAX = 100
_TCP_IDLE_S = 10.0

Forwarder = Callable[[bytes], Awaitable[bytes | None]]
"""Ask somebody else: the query as it came, his answer or None."""


class NameLookup(Protocol):
    """What the networks of one container know."""

    def addresses(self, name: str) -> Sequence[Address] | None:
        """All addresses of a name; None when there is no such name here."""

    def name_of(self, address: Address) -> str | None:
        """The full name of an address of these networks."""


@dataclass(frozen=True, slots=True)
class DnsSockets:
    """A pair of sockets bound inside a container."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def make_sockets(address: str = ADDRESS, port: int = PORT) -> DnsSockets:
    """Bind both in the calling thread's namespace; port 0 is any. Raises OSError."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        udp.bind((address, port))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, port))
        tcp.listen(16)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return DnsSockets(udp, tcp)


def make_sockets_aside() -> DnsSockets:
    """Leave port 53 to a program of the container's own (a name server of the user's).

    Ours listen elsewhere, and a rule inside sends there what is asked of 127.0.0.11:53. It costs
    the container connection tracking, so only those who need it get it. Raises OSError or
    NetlinkError.
    """
    sockets = make_sockets(port=0)
    table = ("ip", "labkit_dns")
    address = ipaddress.IPv4Address(ADDRESS).packed
    messages = [
        nft.add_table(*table),
        nft.delete_table(*table),
        nft.add_table(*table),
        nft.add_chain(*table, "output", kind="nat", hook="output", priority=-100),
    ]
    for number, handle in ((socket.IPPROTO_UDP, sockets.udp), (socket.IPPROTO_TCP, sockets.tcp)):
        rule = [
            nft.expr.payload("network", 16, 4),
            nft.expr.cmp(address),
            nft.expr.meta("l4proto"),
            nft.expr.cmp(bytes([number])),
            nft.expr.payload("transport", 2, 2),
            nft.expr.cmp(PORT.to_bytes(2, "big")),
            nft.expr.immediate(address),
            nft.expr.immediate(handle.getsockname()[1].to_bytes(2, "big"), 9),
            nft.expr.dnat(2),
        ]
        messages.append(nft.add_rule(*table, "output", rule))
    try:
        with nft.open_socket() as rules:
            nft.commit(rules, messages)
    except BaseException:
        sockets.close()
        raise
    return sockets


class DnsServer:
    """Serves one container. Belongs to the loop it is made on."""

    def __init__(self, sockets: DnsSockets, names: NameLookup, forward: Forwarder) -> None:
        self._sockets = sockets
        self._names = names
        self._forward = forward
        self._loop = asyncio.get_running_loop()
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(sockets.udp.fileno(), self._readable)
        self._loop.add_reader(sockets.tcp.fileno(), self._acceptable)
        self.answered = 0

    def close(self) -> None:
        """Stop serving."""
        self._loop.remove_reader(self._sockets.udp.fileno())
        self._loop.remove_reader(self._sockets.tcp.fileno())
        for task in tuple(self._tasks):
            task.cancel()
        self._sockets.close()

    # -- answering ----------------------------------------------------

    def answer(self, question: wire.Question, limit: int | None) -> bytes | None:
        """The answer from memory; None when it has to be asked elsewhere."""
        if question.opcode != 0 or question.cls not in (1, 255):
            return wire.answer(question, wire.NOTIMP)
        if question.kind == wire.PTR:
            address = wire.reverse_address(question.name)
            name = None if address is None else self._names.name_of(address)
            if name is None:
                return None
            return wire.answer(question, wire.NOERROR, [wire.name_record(wire.PTR, name)])
        found = self._names.addresses(question.name)
        if found is None:
            if "." in question.name or not question.name:
                return None
            return wire.answer(question, wire.NXDOMAIN)
        version = {wire.A: (4,), wire.AAAA: (6,), wire.ANY: (4, 6)}.get(question.kind, ())
        chosen = [address for address in found if address.version in version]
        if len(chosen) > 1:
            # Everybody gets all of them, each time beginning with the next one.
            self._turn = (self._turn + 1) % len(chosen)
            chosen = chosen[self._turn :] + chosen[: self._turn]
        records = [wire.address_record(address) for address in chosen]
        return wire.answer(question, wire.NOERROR, records, limit=limit)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- UDP ----------------------------------------------------

    def _readable(self) -> None:
        for _ in range(_BURST):
            try:
                data, peer = self._sockets.udp.recvfrom(4096)
            except OSError:
                return
            self._take(data, peer)

    def _take(self, data: bytes, peer: tuple[str, int]) -> None:
        self.answered += 1
        try:
            question = wire.read_question(data)
        except wire.DnsError:
            self._send(wire.refusal(data, wire.FORMERR), peer)
            return
        found = self.answer(question, question.udp_bytes)
        if found is not None:
            self._send(found, peer)
        elif len(self._tasks) >= _FORWARDS_MAX:
            self._send(wire.answer(question, wire.SERVFAIL), peer)
        else:
            self._start(self._ask_for(data, question, peer))

    async def _ask_for(self, data: bytes, question: wire.Question, peer: tuple[str, int]) -> None:
        found = await self._elsewhere(data, question)
        if len(found) > question.udp_bytes:
            found = wire.answer(question, wire.NOERROR, limit=0)
            found = found[:2] + bytes([found[2] | 0x02]) + found[3:]
        self._send(found, peer)

    async def _elsewhere(self, data: bytes, question: wire.Question) -> bytes:
        found = None
        with contextlib.suppress(OSError, TimeoutError):
            found = await self._forward(data)
        return found if found is not None else wire.answer(question, wire.SERVFAIL)

    def _send(self, data: bytes | None, peer: tuple[str, int]) -> None:
        if data is not None:
            with contextlib.suppress(OSError):
                self._sockets.udp.sendto(data, peer)

    # -- TCP ----------------------------------------------------

    def _acceptable(self) -> None:
        try:
            connection, _ = self._sockets.tcp.accept()
        except OSError:
            return
        if len(self._tasks) >= _FORWARDS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        self._start(self._converse(connection))

    async def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(_TCP_IDLE_S):
                    size = int.from_bytes(await self._exactly(connection, 2), "big")
                    data = await self._exactly(connection, size)
                try:
                    question = wire.read_question(data)
                except wire.DnsError:
                    return
                found = self.answer(question, None) or await self._elsewhere(data, question)
                await self._loop.sock_sendall(connection, len(found).to_bytes(2, "big") + found)

    async def _exactly(self, connection: socket.socket, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = await self._loop.sock_recv(connection, size - len(found))
            if not piece:
                raise asyncio.IncompleteReadError(found, size)
            found += piece
        return found


async def ask(servers: Sequence[str], data: bytes, make: Callable[[str], Awaitable[socket.socket]],
              timeout_s: float = 2.0) -> bytes | None:  # fmt: skip
    """Ask resolvers one after the other.

    `make` gives a UDP socket from which that server can be reached. None when nobody answers.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        try:
            handle = await make(server)
        except OSError:
            continue
        with handle:
            try:
                await loop.sock_connect(handle, (server, PORT))
                await loop.sock_sendall(handle, data)
                async with asyncio.timeout(timeout_s):
                    while True:
                        found = await loop.sock_recv(handle, 65535)
                        if len(found) >= 12 and found[:2] == data[:2]:
                            return found
            except (OSError, TimeoutError):
                continue
    return None
