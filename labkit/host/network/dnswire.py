"""DNS messages as bytes and as values (RFC 1035, RFC 6891 for the size of answers). Pure.

The capture view reads whatever passes by and must survive it, so a decoder of our own is needed in
any case; with it the resolver's three kinds of answer are forty lines more. An answer takes 0.007
ms here and 0.15 ms with dnspython, which would add 6 MB (tests/bench/bench_network.py, part
`libraries`); dnspython is what the tests compare with.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "AAAA",
    "ANY",
    "FORMERR",
    "NOERROR",
    "NOTIMP",
    "NXDOMAIN",
    "PTR",
    "RCODES",
    "REFUSED",
    "SERVFAIL",
    "TYPES",
    "A",
    "DnsError",
    "DnsMessage",
    "Question",
    "Record",
    "answer",
    "decode",
    "query",
    "read_question",
    "reverse_address",
    "reverse_name",
]

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 255
TYPES = {
    A: "A", NS: "NS", CNAME: "CNAME", SOA: "SOA", PTR: "PTR", MX: "MX", TXT: "TXT",
    AAAA: "AAAA", SRV: "SRV", OPT: "OPT", ANY: "ANY", 64: "SVCB", 65: "HTTPS",
}  # fmt: skip
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_HEADER = struct.Struct("!HHHHHH")
_POINTERS_MAX = 64
UDP_BYTES = 512

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class DnsError(ValueError):
    """Bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks, with what is needed to answer him."""

    id: int
    name: str
    """Lower case, without the dot at the end; the root is empty."""
    kind: int
    cls: int = 1
    is_recursive: bool = True
    wire: bytes = b""
    """The question section as it was sent: answers repeat it, spelling and all."""
    udp_bytes: int = UDP_BYTES
    """The longest answer the asker takes over UDP."""
    has_edns: bool = False
    opcode: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an answer. `text` is its value as people write it."""

    name: str
    kind: int
    ttl_s: int
    data: bytes
    text: str = ""


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """A whole message, for reading."""

    id: int
    is_response: bool
    rcode: int
    flags: int
    questions: tuple[tuple[str, int], ...]
    answers: tuple[Record, ...] = ()
    counts: tuple[int, int, int, int] = field(default=(0, 0, 0, 0))


def _name(data: bytes, offset: int) -> tuple[str, int]:
    """A name and where the next thing begins; follows compression pointers (RFC 1035, 4.1.4)."""
    labels: list[str] = []
    end, jumps, total = -1, 0, 0
    while True:
        if offset >= len(data):
            raise DnsError("a name runs past the end")
        size = data[offset]
        if size == 0:
            return ".".join(labels), (offset + 1 if end < 0 else end)
        if size & 0xC0 == 0xC0:
            if offset + 1 >= len(data) or jumps >= _POINTERS_MAX:
                raise DnsError("a name points nowhere")
            if end < 0:
                end = offset + 2
            offset = (size & 0x3F) << 8 | data[offset + 1]
            jumps += 1
            continue
        if size & 0xC0 or offset + 1 + size > len(data):
            raise DnsError("a name has an impossible label")
        total += size + 1
        if total > 255:
            raise DnsError("a name is longer than 255 bytes")
        labels.append(data[offset + 1 : offset + 1 + size].decode("ascii", "backslashreplace"))
        offset += size + 1


def _encode_name(name: str) -> bytes:
    found = bytearray()
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("idna") if not label.isascii() else label.encode()
            if len(raw) > 63:
                raise DnsError(f"a label of {name} is longer than 63 bytes")
            found.append(len(raw))
            found += raw
    return bytes(found) + b"\0"


def read_question(data: bytes) -> Question:
    """The question of a query. Raises DnsError when there is none."""
    if len(data) < 12:
        raise DnsError("shorter than a header")
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & 0x8000 or questions != 1:
        raise DnsError("not a query with one question")
    name, end = _name(data, 12)
    if end + 4 > len(data):
        raise DnsError("the question ends early")
    kind, cls = struct.unpack_from("!HH", data, end)
    size, has_edns = UDP_BYTES, False
    if additional and not answers and not authorities and end + 15 <= len(data):
        # The first additional record of a query is EDNS: its class is the size (RFC 6891, 6.1.2).
        marker, option, wanted = struct.unpack_from("!BHH", data, end + 4)
        if marker == 0 and option == OPT:
            size, has_edns = max(UDP_BYTES, min(wanted, 4096)), True
    return Question(
        number, name.lower(), kind, cls, bool(flags & 0x0100), data[12 : end + 4], size, has_edns,
        flags >> 11 & 15,
    )  # fmt: skip


def query(number: int, name: str, kind: int = A) -> bytes:
    """A query, recursion desired."""
    return (
        _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + _encode_name(name) + struct.pack("!HH", kind, 1)
    )


def address_record(address: Address, ttl_s: int = 600) -> Record:
    """An A or AAAA record; its name is the question's."""
    kind = A if address.version == 4 else AAAA
    return Record("", kind, ttl_s, address.packed, str(address))


def name_record(kind: int, target: str, ttl_s: int = 600) -> Record:
    """A PTR or CNAME record."""
    return Record("", kind, ttl_s, _encode_name(target), target)


def answer(
    question: Question,
    rcode: int,
    records: Sequence[Record] = (),
    *,
    limit: int | None = None,
    authoritative: bool = False,
) -> bytes:
    """The answer to `question`; longer than `limit` bytes it is cut and says so (TC)."""
    flags = 0x8080 | (0x0100 if question.is_recursive else 0) | rcode | question.opcode << 11
    if authoritative:
        flags |= 0x0400
    body = bytearray(question.wire)
    count = 0
    extra = b"\0" + struct.pack("!HHIH", OPT, 1232, 0, 0) if question.has_edns else b""
    for record in records:
        # 0xC00C points at the question's name, which every answer of ours is about.
        piece = b"\xc0\x0c" + struct.pack(
            "!HHIH", record.kind, 1, record.ttl_s, len(record.data)
        ) + record.data  # fmt: skip
        if limit is not None and 12 + len(body) + len(piece) + len(extra) > limit:
            flags |= 0x0200
            break
        body += piece
        count += 1
    head = _HEADER.pack(question.id, flags, 1 if question.wire else 0, count, 0, bool(extra))
    return head + bytes(body) + extra


def refusal(data: bytes, rcode: int) -> bytes | None:
    """The answer to something that could not be read; None when not even its id could."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    return data[:2] + struct.pack("!HHHHH", 0x8000 | rcode, 0, 0, 0, 0)


def decode(data: bytes) -> DnsMessage:
    """A whole message. Raises DnsError where it is broken."""
    if len(data) < 12:
        raise DnsError("shorter than a header")
    number, flags, *counts = _HEADER.unpack_from(data)
    offset = 12
    questions = []
    for _ in range(counts[0]):
        name, offset = _name(data, offset)
        if offset + 4 > len(data):
            raise DnsError("the question ends early")
        questions.append((name, struct.unpack_from("!H", data, offset)[0]))
        offset += 4
    answers = []
    for _ in range(counts[1]):
        name, offset = _name(data, offset)
        if offset + 10 > len(data):
            raise DnsError("a record ends early")
        kind, _, ttl, size = struct.unpack_from("!HHIH", data, offset)
        offset += 10
        if offset + size > len(data):
            raise DnsError("a record ends early")
        answers.append(Record(name, kind, ttl, data[offset : offset + size],
                              _shown(data, kind, offset, size)))  # fmt: skip
        offset += size
    return DnsMessage(
        number, bool(flags & 0x8000), flags & 15, flags, tuple(questions), tuple(answers),
        (counts[0], counts[1], counts[2], counts[3]),
    )  # fmt: skip


def _shown(data: bytes, kind: int, offset: int, size: int) -> str:
    raw = data[offset : offset + size]
    if (kind == A and size == 4) or (kind == AAAA and size == 16):
        return str(ipaddress.ip_address(raw))
    if kind in (NS, CNAME, PTR):
        return _name(data, offset)[0]
    if kind == MX and size > 2:
        return f"{int.from_bytes(raw[:2], 'big')} {_name(data, offset + 2)[0]}"
    if kind == TXT and size:
        return raw[1 : 1 + raw[0]].decode("ascii", "backslashreplace")
    return raw.hex()


def reverse_name(address: Address) -> str:
    """`2.0.18.172.in-addr.arpa`."""
    return address.reverse_pointer


def reverse_address(name: str) -> Address | None:
    """The address a PTR question asks about, None if it is no such question."""
    words = name.rstrip(".").lower()
    try:
        if words.endswith(".in-addr.arpa"):
            parts = words.removesuffix(".in-addr.arpa").split(".")
            return ipaddress.IPv4Address(".".join(reversed(parts)))
        if words.endswith(".ip6.arpa"):
            digits = "".join(reversed(words.removesuffix(".ip6.arpa").split(".")))
            return ipaddress.IPv6Address(int(digits, 16)) if len(digits) == 32 else None
    except ValueError:
        return None
    return None
