"""The rules that are in the kernel now, as text: what `nft list table` shows of our own table.

Only the expressions that labkit's rules are made of (nft.py) are turned into words; anything else
appears by its name.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from labkit.host.network import nft
from labkit.host.network.netlink import (
    Attributes,
    Message,
    NetlinkSocket,
    each_attribute,
    parse_attributes,
)

__all__ = ["RuleText", "read_rules"]

_META = {
    3: "meta mark", 4: "iif", 5: "oif", 6: "iifname", 7: "oifname", 12: "meta nftrace",
    15: "meta nfproto", 16: "meta l4proto",
}  # fmt: skip
_CT = {0: "ct state", 2: "ct status"}
_PAYLOAD = {
    (1, 12, 4): "ip saddr", (1, 16, 4): "ip daddr", (1, 8, 16): "ip6 saddr",
    (1, 24, 16): "ip6 daddr", (1, 16, 1): "ip daddr/8", (2, 2, 2): "th dport",
    (2, 0, 2): "th sport", (1, 9, 1): "ip protocol",
}  # fmt: skip
_VERDICTS = {0: "drop", 1: "accept", -5: "return"}


@dataclass(frozen=True, slots=True)
class RuleText:
    """One rule of one chain, with what it has counted if it counts."""

    chain: str
    handle: int
    text: str
    packets: int | None = None
    bytes: int | None = None


def read_rules(handle: NetlinkSocket, family: str, table: str) -> list[RuleText]:
    """Every rule of a table, in order. `handle` speaks NETLINK_NETFILTER."""
    body = struct.pack("!BBH", nft.FAMILIES[family], 0, 0)
    request = Message((10 << 8) | nft.GETRULE, 0, body, "list rules")
    found = []
    for _, answer in handle.dump(request):
        values = parse_attributes(answer, 4)
        if _text(values.get(1, b"")) == table:
            found.append(_rule(values))
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"\0", "big")


def _rule(values: Attributes) -> RuleText:
    registers: dict[int, str] = {}
    words: list[str] = []
    packets = size = None
    for _, listed in each_attribute(values.get(4, b"")):
        parts = parse_attributes(listed)
        name, data = _text(parts.get(1, b"")), parse_attributes(parts.get(2, b""))
        if name == "counter":
            size, packets = _number(data.get(1)), _number(data.get(2))
            words.append("counter")
        else:
            words += _words(name, data, registers)
    shown = [word for word in words if word not in ("meta nfproto ipv4", "meta nfproto ipv6")]
    return RuleText(
        _text(values.get(2, b"")), _number(values.get(3)), " ".join(shown), packets, size
    )


def _register(data: Attributes, kind: int) -> int:
    """Registers by their four-byte number: 1 is where 8 is."""
    number = _number(data.get(kind))
    return number if number >= 8 else 8 + (number - 1) * 4


def _concatenated(registers: dict[int, str], first: int) -> str:
    """All that was loaded from a register on, as a concatenation."""
    return " . ".join(registers[key] for key in sorted(registers) if key >= first)


def _words(name: str, data: Attributes, registers: dict[int, str]) -> list[str]:
    match name:
        case "meta" | "ct" | "payload" | "fib":
            registers[_register(data, 1)] = _loaded(name, data)
            return []
        case "bitwise":
            mask = parse_attributes(data.get(4, b"")).get(1, b"")
            key = _register(data, 1)
            registers[key] = f"{registers.get(key, '?')} & {_mask(registers.get(key, ''), mask)}"
            return []
        case "cmp":
            return [_compare(data, registers)]
        case "lookup":
            key = _register(data, 2)
            what, name_of = _concatenated(registers, key), _text(data.get(1, b""))
            registers.clear()
            if 3 in data:
                registers[8] = f"{what} map @{name_of}"
                return []
            sign = "!= " if _number(data.get(5)) & 1 else ""
            return [f"{what} {sign}@{name_of}"]
        case "immediate":
            inner = parse_attributes(data.get(2, b""))
            if 2 in inner:
                code = struct.unpack("!i", parse_attributes(inner[2]).get(1, bytes(4)))[0]
                return [_VERDICTS.get(code, f"verdict {code}")]
            registers[_register(data, 1)] = inner.get(1, b"").hex()
            return []
        case "nat":
            return [f"dnat to {registers.get(8, '?')}"]
        case "masq":
            return ["masquerade"]
    return [name]


def _loaded(name: str, data: Attributes) -> str:
    if name == "meta":
        return _META.get(_number(data.get(2)), "meta ?")
    if name == "ct":
        return _CT.get(_number(data.get(2)), "ct ?")
    if name == "fib":
        return "fib daddr type"
    key = (_number(data.get(2)), _number(data.get(3)), _number(data.get(4)))
    return _PAYLOAD.get(key, "@payload")


def _mask(what: str, mask: bytes) -> str:
    number = int.from_bytes(mask, "little")
    if what == "ct state":
        names = ((1, "invalid"), (2, "established"), (4, "related"), (8, "new"))
        return ",".join(word for bit, word in names if number & bit)
    if what == "ct status" and number == 32:
        return "dnat"
    return str(ipaddress.ip_address(mask)) if len(mask) in (4, 16) else mask.hex()


def _compare(data: Attributes, registers: dict[int, str]) -> str:
    value = parse_attributes(data.get(3, b"")).get(1, b"")
    what = registers.pop(_register(data, 1), "?")
    sign = "!= " if _number(data.get(2)) == 1 else ""
    if what.startswith("ct ") and "&" in what:
        word, _, mask = what.partition(" & ")
        return f"{word} {mask}"
    if what.endswith("name"):
        return f'{what} {sign}"{_text(value)}"'
    if what == "meta nfproto":
        return what + (" ipv4" if value[:1] == b"\x02" else " ipv6")
    if what == "fib daddr type":
        is_local = struct.unpack("=I", value)[0] == 2
        return what + (" local" if is_local else f" 0x{value.hex()}")
    if what == "ip daddr/8":
        return f"ip daddr {value[0]}.0.0.0/8"
    if len(value) == 4 and what.startswith("ip "):
        return f"{what} {sign}{ipaddress.IPv4Address(value)}"
    return f"{what} {sign}0x{value.hex()}"
