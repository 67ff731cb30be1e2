"""An outside for rooms without network: a namespace that answers for a few famous addresses.

It hangs on the lab host like the real one would, so packets travel, are masqueraded and can be
captured; but everything that can be read there says that it is simulated. It lives as long as the
daemon and is made again by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import socket
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial

from labkit.host.network import dnswire, links
from labkit.host.network.dns import DnsServer, make_sockets
from labkit.host.network.namespaces import CLONE_NEWNET, entered
from labkit.host.network.netlink import Address, NetlinkSocket
from labkit.host.network.plumbing import Plumbing

__all__ = ["NAMES", "Outside", "new_namespace"]

NAMES: dict[str, str] = {
    "dns.google": "8.8.8.8",
    "one.one.one.one": "1.1.1.1",
    "google.com": "142.250.74.46",
    "www.google.com": "142.250.74.46",
    "example.com": "93.184.215.14",
    "www.example.com": "93.184.215.14",
    "example.org": "93.184.215.14",
}
"""Who is there. The addresses are ones these names once had."""

_RESOLVERS = ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1")
_HOST_END, _GATEWAY = "198.19.255.2/30", "198.19.255.1"
_PAGE = """<!doctype html><title>{name} (simulated)</title>
<h1>{name}</h1><p>This is not the real {name}: labkit simulates an outside here, because this lab
has no network (or was started with --offline).</p>
"""


class _Zone:
    """The names above, for the resolver."""

    def addresses(self, name: str) -> Sequence[Address] | None:
        found = NAMES.get(name)
        return None if found is None else [ipaddress.ip_address(found)]

    def name_of(self, address: Address) -> str | None:
        return next((name for name, text in NAMES.items() if text == str(address)), None)


class Outside:
    """The simulated outside of one lab host."""

    resolver = "8.8.8.8"
    """What containers without names of their own ask."""

    def __init__(self, plumbing: Plumbing) -> None:
        self._plumbing = plumbing
        self._namespace = -1
        self._dns: list[DnsServer] = []
        self._http: asyncio.Server | None = None

    async def open(self) -> None:
        """Make the namespace, hang it on the lab host and serve in it. Raises LabkitError."""
        worker = self._plumbing.worker
        # From the lab host: an ordinary user's daemon could not come home to the machine's.
        self._namespace = await worker.run(self._plumbing.namespace, new_namespace)
        await worker.run(self._plumbing.namespace, self._connect)
        # A socket for each address: an answer must come from the one that was asked.
        for text in _RESOLVERS:
            sockets = await worker.run(self._namespace, partial(make_sockets, text))
            self._dns.append(DnsServer(sockets, _Zone(), self._nobody))
        handle = await worker.run(self._namespace, _listen)
        self._http = await asyncio.start_server(_serve, sock=handle)

    def _connect(self) -> None:
        with NetlinkSocket() as handle:
            old = links.index_of("eth0")
            if old:
                handle.send([links.delete_link(old)])
            handle.send([links.add_veth("eth0", "eth0", peer_namespace=self._namespace)])
            index = links.index_of("eth0")
            handle.send(
                [
                    links.add_address(index, _HOST_END),
                    links.add_route("0.0.0.0/0", gateway=ipaddress.ip_address(_GATEWAY)),
                ]
            )
            with entered(self._namespace), NetlinkSocket() as inside:
                own, loopback = links.index_of("eth0"), links.index_of("lo")
                everyone = sorted({*NAMES.values(), *_RESOLVERS})
                inside.send(
                    [
                        links.set_link(loopback, up=True),
                        links.set_link(own, up=True),
                        links.add_address(own, f"{_GATEWAY}/30"),
                        *(links.add_address(loopback, f"{text}/32") for text in everyone),
                    ]
                )

    @staticmethod
    async def _nobody(data: bytes) -> bytes | None:
        return dnswire.answer(dnswire.read_question(data), dnswire.NXDOMAIN)

    async def resolve(self, data: bytes) -> bytes | None:
        """What this outside's name server answers to a query."""
        with contextlib.suppress(dnswire.DnsError):
            question = dnswire.read_question(data)
            return self._dns[0].answer(question, question.udp_bytes) or await self._nobody(data)
        return None

    async def close(self) -> None:
        """Let the outside go."""
        for server in self._dns:
            server.close()
        if self._http is not None:
            self._http.close()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1


def new_namespace() -> int:
    """A descriptor of a network namespace that nobody is in; it lasts while that is open."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot make a network namespace: {os.strerror(code)}")
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            if libc.setns(home, CLONE_NEWNET) < 0:
                code = ctypes.get_errno()
                raise OSError(code, "cannot come home from a network namespace")
    finally:
        os.close(home)


def _listen() -> socket.socket:
    handle = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    handle.bind(("0.0.0.0", 80))  # noqa: S104 - inside the simulated outside
    handle.listen(64)
    return handle


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, answered with a page that says what it is (RFC 9112)."""
    try:
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        name = "this address"
        for line in lines[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == "host":
                name = value.strip()[:80] or name
        safe = "".join(letter for letter in name if letter.isalnum() or letter in ".:-[]")
        body = _PAGE.format(name=safe).encode()
        text = (
            "HTTP/1.1 200 OK\r\nServer: labkit simulated outside\r\n"
            f"Date: {formatdate(usegmt=True)}\r\nContent-Type: text/html\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(text.encode() + (b"" if lines[0].startswith("HEAD ") else body))
        await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
