"""Netlink for links, addresses, routes and neighbours (rtnetlink(7)), in batches.

A batch is many messages in one sendmsg(2); the kernel works through them in order on the sender's
time and answers each. Why not pyroute2: it takes twice the time for one veth pair and ten times
for a batch inside a container, keeps 12 MB of a daemon that is to stay below 60 MB idle, and forks
Python for a socket in another namespace (tests/bench/bench_network.py, part `libraries`). What is
encoded here is compared with iproute2's and nft's own reading of it in tests/system/network.

Nothing here waits: the kernel has answered when sendmsg returns. Sockets belong to the namespace
in which they are made (namespaces.py). Numbers are those of linux/rtnetlink.h, if_link.h, veth.h.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from labkit.base.errors import SystemFailure

__all__ = [
    "Address",
    "Attributes",
    "Link",
    "Message",
    "NetlinkError",
    "NetlinkSocket",
    "attribute",
    "nested",
    "parse_attributes",
    "parse_link",
]

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_APPEND = 0x200, 0x400, 0x100, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED = 0x8000
_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_CAP_ACK = 270, 11, 10
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 18

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Attributes = dict[int, bytes]


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """One attribute: an integer is 32 bits of the machine's order, a text ends with a zero byte."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    size = len(value) + 4
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size & 3)


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def parse_attributes(data: bytes | memoryview, offset: int = 0) -> Attributes:
    """Attributes by kind, the last one where several share it."""
    return dict(each_attribute(data, offset))


def each_attribute(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Attributes in order."""
    view = memoryview(data)
    while offset + 4 <= len(view):
        size, kind = _ATTRIBUTE.unpack_from(view, offset)
        if size < 4 or offset + size > len(view):
            return
        yield kind & 0x3FFF, bytes(view[offset + 4 : offset + size])
        offset += (size + 3) & ~3


@dataclass(frozen=True, slots=True)
class Message:
    """One request. `what` says in words what it does, for the error; codes in `ignore` are fine."""

    kind: int
    flags: int
    body: bytes
    what: str = ""
    ignore: tuple[int, ...] = ()


class NetlinkError(SystemFailure):
    """The kernel refused one message of a batch; `code` is its errno."""

    def __init__(self, what: str, code: int, detail: str = "") -> None:
        words = os.strerror(code) if code else detail
        super().__init__(f"cannot {what}: {words}{f' ({detail})' if detail and code else ''}")
        self.code = code


class NetlinkSocket:
    """A netlink socket of the namespace in which it is made."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        try:
            self._socket.bind((0, 0))
            for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
                with contextlib.suppress(OSError):
                    self._socket.setsockopt(_SOL_NETLINK, option, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.settimeout(10)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def _encode(self, message: Message, flags: int) -> bytes:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        return (
            _HEADER.pack(
                16 + len(message.body), message.kind, message.flags | flags, self._sequence, 0
            )
            + message.body
        )

    def _received(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = memoryview(self._socket.recv(_RECEIVE_BYTES))
        offset = 0
        while offset + 16 <= len(data):
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if size < 16 or offset + size > len(data):
                break
            yield kind, flags, sequence, bytes(data[offset + 16 : offset + size])
            offset += (size + 3) & ~3

    def send(self, messages: Sequence[Message]) -> None:
        """Send all in one go and wait for every answer.

        Raises NetlinkError for the first refusal that is not ignored; the kernel has worked
        through the others all the same.
        """
        if not messages:
            return
        waiting: dict[int, Message] = {}
        parts = []
        for message in messages:
            parts.append(self._encode(message, NLM_F_REQUEST | NLM_F_ACK))
            waiting[self._sequence] = message
        self._socket.send(b"".join(parts))
        first: NetlinkError | None = None
        while waiting:
            for kind, flags, sequence, body in self._received():
                message = waiting.get(sequence)  # type: ignore[assignment]
                if message is None or kind != NLMSG_ERROR:
                    continue
                del waiting[sequence]
                found = refusal(message, flags, body)
                if found is not None and first is None:
                    first = found
        if first is not None:
            raise first

    def transact(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """Send a transaction (nftables): all or nothing.

        The acknowledgement that ends the wait is asked of the last real message: that of the end
        itself exists only since Linux 6.10. Raises NetlinkError for the first message refused.
        """
        if not messages:
            return
        parts, by_sequence = [], {}
        for message in (begin, *messages, end):
            is_last = message is messages[-1]
            parts.append(self._encode(message, NLM_F_REQUEST | (NLM_F_ACK if is_last else 0)))
            by_sequence[self._sequence] = message
        last = self._sequence - 1
        self._socket.send(b"".join(parts))
        first: NetlinkError | None = None
        done = False
        while not done and first is None:
            for kind, flags, sequence, body in self._received():
                if kind != NLMSG_ERROR or sequence not in by_sequence:
                    continue
                found = refusal(by_sequence[sequence], flags, body)
                if found is not None and first is None:
                    first = found
                done = done or sequence == last
        if first is not None:
            self._drain()  # what else was refused came in the same go
            raise first

    def _drain(self) -> None:
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            while self._socket.recv(_RECEIVE_BYTES):
                pass
        self._socket.settimeout(10)

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """The answers (kind, body) to a request for a list."""
        self._socket.send(self._encode(message, NLM_F_REQUEST | NLM_F_DUMP))
        wanted = self._sequence
        found: list[tuple[int, bytes]] = []
        while True:
            for kind, flags, sequence, body in self._received():
                if sequence != wanted:
                    continue
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    error = refusal(message, flags, body)
                    if error is not None:
                        raise error
                    return found
                found.append((kind, body))


def refusal(message: Message, flags: int, body: bytes) -> NetlinkError | None:
    """What an NLMSG_ERROR says; None when it is an acknowledgement or ignored."""
    code = -struct.unpack_from("=i", body)[0]
    if not code or code in message.ignore:
        return None
    detail = ""
    if flags & 0x200:  # NLM_F_ACK_TLVS: extended acknowledgement after the header
        size = struct.unpack_from("=I", body, 4)[0] if not flags & 0x100 else 16
        with contextlib.suppress(struct.error):
            text = parse_attributes(body, 4 + ((size + 3) & ~3)).get(1, b"")
            detail = text.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(message.what or "change the network", code, detail)


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as the kernel lists it."""

    index: int
    name: str
    kind: str
    """bridge, veth, vxlan…; empty for a device that is no virtual link (lo)."""
    is_up: bool
    master: int
    peer_index: int
    mac: str
    mtu: int
    alias: str = ""


_IFINFO = struct.Struct("=BxHiII")


def parse_link(body: bytes) -> Link:
    """A RTM_NEWLINK message."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = parse_attributes(body, 16)
    info = parse_attributes(found.get(18, b""))

    def number(kind: int) -> int:
        value = found.get(kind, b"")
        return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0

    def text(value: bytes) -> str:
        return value.split(b"\0", 1)[0].decode(errors="replace")

    return Link(
        index=index,
        name=text(found.get(3, b"")),
        kind=text(info.get(1, b"")),
        is_up=bool(flags & 1),
        master=number(10),
        peer_index=number(5),
        mac=":".join(f"{byte:02x}" for byte in found.get(1, b"")),
        mtu=number(4),
        alias=text(found.get(20, b"")),
    )
