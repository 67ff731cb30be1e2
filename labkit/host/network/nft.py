"""nftables over netlink: tables, chains, rules, sets and maps as values; one atomic transaction.

A rule is a list of expressions over registers, as the kernel's own small machine takes them
(linux/netfilter/nf_tables.h); `nft list ruleset` shows them as text again, and the tests compare
with that. Register 1 is sixteen bytes wide; 8 to 15 are the four-byte registers it and its
neighbours are made of (8 is where 1 begins).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.host.network.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    Message,
    NetlinkSocket,
    attribute,
    nested,
)

__all__ = [
    "ACCEPT",
    "DROP",
    "FAMILIES",
    "IFNAME",
    "IPV4",
    "IPV6",
    "PORT",
    "PROTOCOL",
    "Element",
    "add_chain",
    "add_elements",
    "add_rule",
    "add_set",
    "add_table",
    "commit",
    "delete_elements",
    "delete_table",
    "expr",
    "interval",
    "key",
]

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
ACCEPT, DROP, RETURN = 1, 0, -5
_SUBSYSTEM = 10 << 8
(
    NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE,
    NEWSET, GETSET, DELSET, NEWSETELEM, GETSETELEM, DELSETELEM,
) = range(15)  # fmt: skip

# Data types: nft's number (only to show them) and bytes in a key.
IPV4, IPV6, PROTOCOL, PORT, IFNAME, MARK = (7, 4), (8, 16), (12, 1), (13, 2), (41, 16), (19, 4)
DataType = tuple[int, int]


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def _generation(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def _message(
    kind: int, family: str, body: bytes, what: str, flags: int = 0, ignore: tuple[int, ...] = ()
) -> Message:
    return Message(_SUBSYSTEM | kind, flags, _generation(FAMILIES[family]) + body, what, ignore)


def add_table(family: str, name: str) -> Message:
    """A table; one that exists is kept."""
    return _message(
        NEWTABLE, family, attribute(1, name) + _u32(2, 0), f"make the table {family} {name}",
        NLM_F_CREATE,
    )  # fmt: skip


def delete_table(family: str, name: str) -> Message:
    """Remove a table with all that is in it."""
    return _message(DELTABLE, family, attribute(1, name), f"remove the table {family} {name}")


def add_chain(
    family: str, table: str, name: str, *, kind: str = "", hook: str = "", priority: int = 0
) -> Message:
    """A chain; with a hook it is a base chain (policy accept)."""
    body = attribute(1, table) + attribute(3, name)
    if hook:
        body += nested(4, _u32(1, HOOKS[hook]), _u32(2, priority))
        body += _u32(5, ACCEPT) + attribute(7, kind)
    return _message(NEWCHAIN, family, body, f"make the chain {name}", NLM_F_CREATE)


def add_rule(family: str, table: str, chain: str, expressions: Sequence[bytes]) -> Message:
    """Append a rule."""
    listed = b"".join(nested(1, expression) for expression in expressions)
    body = attribute(1, table) + attribute(2, chain) + nested(4, listed)
    return _message(NEWRULE, family, body, f"add a rule to {chain}", NLM_F_CREATE | NLM_F_APPEND)


def _type_number(kinds: Sequence[DataType]) -> int:
    number = 0
    for kind, _ in kinds:
        number = number << 6 | kind
    return number


def _width(kinds: Sequence[DataType]) -> int:
    if len(kinds) == 1:
        return kinds[0][1]
    return sum((size + 3) & ~3 for _, size in kinds)


def add_set(
    family: str,
    table: str,
    name: str,
    keys: Sequence[DataType],
    data: Sequence[DataType] = (),
    *,
    is_interval: bool = False,
    identifier: int = 1,
) -> Message:
    """A named set, or with `data` a map. Several key types make a concatenation."""
    flags = (8 if data else 0) | (4 if is_interval else 0)
    body = attribute(1, table) + attribute(2, name)
    body += _u32(4, _type_number(keys)) + _u32(5, _width(keys))
    if data:
        body += _u32(6, _type_number(data)) + _u32(7, _width(data))
    body += _u32(3, flags) + _u32(10, identifier)
    # For the eyes only: nft prints keys of several bytes the right way round (1 host, 2 network).
    order = 1 if keys[0] in (IFNAME, MARK) else 2
    marks = struct.pack("=BBI", 0, 4, order)
    if data:
        marks += struct.pack("=BBI", 1, 4, 2)
    body += attribute(13, marks)
    return _message(NEWSET, family, body, f"make the set {name}", NLM_F_CREATE)


@dataclass(frozen=True, slots=True)
class Element:
    """One element: a key (see `key`), a value if the set is a map, the end of an interval."""

    key: bytes
    data: bytes | None = None
    is_end: bool = False


def key(*parts: bytes | str | int) -> bytes:
    """A key: an address or port packed in network order, a name of an interface, a protocol.

    Several parts make a concatenation, each filled up to four bytes.
    """
    found = []
    for part in parts:
        if isinstance(part, str):
            part = part.encode().ljust(16, b"\0")
        elif isinstance(part, int):
            part = bytes([part])
        found.append(part)
    if len(found) == 1:
        return found[0]
    return b"".join(part + b"\0" * (-len(part) & 3) for part in found)


def interval(first: bytes, last: bytes) -> tuple[Element, ...]:
    """The elements for all keys from `first` to `last`."""
    after = int.from_bytes(last, "big") + 1
    start = Element(first)
    if after >> (8 * len(last)):
        return (start,)  # to the end of all keys
    return (start, Element(after.to_bytes(len(last), "big"), is_end=True))


def _elements(
    kind: int, flags: int, family: str, table: str, name: str, elements: Iterable[Element]
) -> Message:
    listed = b""
    for element in elements:
        body = nested(1, attribute(1, element.key))
        if element.data is not None and kind == NEWSETELEM:
            body += nested(2, attribute(1, element.data))
        if element.is_end:
            body += _u32(3, 1)
        listed += nested(1, body)
    body = attribute(1, table) + attribute(2, name) + nested(3, listed)
    return _message(kind, family, body, f"change the set {name}", flags)


def add_elements(family: str, table: str, name: str, elements: Iterable[Element]) -> Message:
    """Put elements into a set or map."""
    return _elements(NEWSETELEM, NLM_F_CREATE, family, table, name, elements)


def delete_elements(family: str, table: str, name: str, elements: Iterable[Element]) -> Message:
    """Take elements out. A missing one fails the transaction (ENOENT)."""
    return _elements(DELSETELEM, 0, family, table, name, elements)


def commit(handle: NetlinkSocket, messages: Sequence[Message]) -> None:
    """Do all of it or nothing. `handle` speaks NETLINK_NETFILTER.

    Raises NetlinkError, naming what was refused.
    """
    edge = struct.pack("!BBH", 0, 0, 10)
    begin = Message(0x10, 0, edge, "begin a change of the rules")
    end = Message(0x11, 0, edge, "change the rules")
    handle.transact(begin, messages, end)


def open_socket() -> NetlinkSocket:
    """A socket for `commit` in the calling thread's namespace."""
    return NetlinkSocket(NETLINK_NETFILTER)


class expr:  # noqa: N801 - reads as a word in rules: expr.meta(…)
    """The expressions rules are made of."""

    @staticmethod
    def _make(name: str, *inner: bytes) -> bytes:
        return attribute(1, name) + nested(2, *inner)

    @staticmethod
    def meta(word: str, register: int = 1) -> bytes:
        """Load what the kernel knows about the packet."""
        number = {
            "mark": 3, "iif": 4, "oif": 5, "iifname": 6, "oifname": 7, "nftrace": 12,
            "nfproto": 15, "l4proto": 16,
        }[word]  # fmt: skip
        return expr._make("meta", _u32(2, number), _u32(1, register))

    @staticmethod
    def set_meta(word: str, register: int = 1) -> bytes:
        """Change it: `mark` or `nftrace`."""
        return expr._make("meta", _u32(2, {"mark": 3, "nftrace": 12}[word]), _u32(3, register))

    @staticmethod
    def payload(base: str, offset: int, length: int, register: int = 1) -> bytes:
        """Load bytes of the packet: base link, network or transport."""
        number = {"link": 0, "network": 1, "transport": 2}[base]
        return expr._make(
            "payload", _u32(1, register), _u32(2, number), _u32(3, offset), _u32(4, length)
        )

    @staticmethod
    def cmp(value: bytes, *, differs: bool = False, register: int = 1) -> bytes:
        """Go on only if the register equals (or differs from) `value`."""
        return expr._make(
            "cmp", _u32(1, register), _u32(2, 1 if differs else 0), nested(3, attribute(1, value))
        )

    @staticmethod
    def bits(mask: bytes, register: int = 1) -> bytes:
        """Keep the bits of `mask`."""
        zero = bytes(len(mask))
        return expr._make(
            "bitwise", _u32(1, register), _u32(2, register), _u32(3, len(mask)),
            nested(4, attribute(1, mask)), nested(5, attribute(1, zero)),
        )  # fmt: skip

    @staticmethod
    def lookup(
        name: str, *, register: int = 1, into: int | None = None, absent: bool = False
    ) -> bytes:
        """Go on only if the register is in the set (or not); a map's value goes `into`."""
        inner = attribute(1, name) + _u32(2, register)
        if into is not None:
            inner += _u32(3, into)
        if absent:
            inner += _u32(5, 1)
        return expr._make("lookup", inner)

    @staticmethod
    def immediate(value: bytes, register: int = 1) -> bytes:
        """Load a constant."""
        return expr._make("immediate", _u32(1, register), nested(2, attribute(1, value)))

    @staticmethod
    def verdict(code: int) -> bytes:
        """End with ACCEPT, DROP or RETURN."""
        return expr._make("immediate", _u32(1, 0), nested(2, nested(2, _u32(1, code))))

    @staticmethod
    def ct(word: str, register: int = 1) -> bytes:
        """Load what connection tracking knows: state or status, as bits of the machine's order."""
        return expr._make("ct", _u32(2, {"state": 0, "status": 2}[word]), _u32(1, register))

    @staticmethod
    def fib_daddr_type(register: int = 1) -> bytes:
        """Load what kind of address the destination is (RTN_LOCAL is 2)."""
        return expr._make("fib", _u32(1, register), _u32(2, 3), _u32(3, 2))

    @staticmethod
    def dnat(family: int, address: int | None = 1, port: int | None = 9) -> bytes:
        """Send the connection elsewhere; registers of the new address and port. Family: NFPROTO."""
        inner = _u32(1, 1) + _u32(2, family)
        if address is not None:
            inner += _u32(3, address)
        if port is not None:
            inner += _u32(5, port)
        return expr._make("nat", inner)

    @staticmethod
    def masquerade() -> bytes:
        """Give the packet the address of the interface it leaves by."""
        return expr._make("masq")

    @staticmethod
    def redirect(port_register: int = 1) -> bytes:
        """Send the connection to a port of this host."""
        return expr._make("redir", _u32(1, port_register))

    @staticmethod
    def tproxy(port_register: int = 1) -> bytes:
        """Give the packet to a transparent socket of this host, addresses unchanged."""
        return expr._make("tproxy", _u32(1, 0), _u32(3, port_register))

    @staticmethod
    def counter() -> bytes:
        """Count packets and bytes."""
        return expr._make("counter")
