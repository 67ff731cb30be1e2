"""A packet filter in tcpdump's words: `tcp port 80 and host 172.17.0.2`. Pure.

expression: term { and|or term }         and binds tighter; `not`, parentheses
term:       arp ip ip6 icmp tcp udp dns | [src|dst] host A | [src|dst] net N/P
            | [src|dst] port P | portrange A-B | vlan | vxlan
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from labkit.base.errors import InvalidParameter
from labkit.host.network.decode import Packet

__all__ = ["parse_filter"]

Test = Callable[[Packet], bool]

_LAYERS = {
    "arp": ("ARP",), "ip": ("IPv4",), "ip6": ("IPv6",), "icmp": ("ICMP",), "icmp6": ("ICMPv6",),
    "tcp": ("TCP",), "udp": ("UDP",), "dns": ("DNS",), "vxlan": ("VXLAN",),
}  # fmt: skip


def parse_filter(text: str) -> Test:
    """A test of decoded packets; the empty filter takes everything.

    Raises InvalidParameter naming the word that is not understood.
    """
    words = text.replace("(", " ( ").replace(")", " ) ").replace("&&", " and ").replace(
        "||", " or "
    ).split()  # fmt: skip
    if not words:
        return lambda _: True
    parser = _Parser(words)
    found = parser.either()
    if parser.position != len(words):
        raise parser.error()
    return found


class _Parser:
    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.position = 0

    def error(self) -> InvalidParameter:
        if self.position < len(self.words):
            where = f"the word {self.words[self.position]!r} (number {self.position + 1})"
        else:
            where = "the end: something is missing"
        return InvalidParameter(
            f"cannot understand the filter {' '.join(self.words)!r} at {where}",
            hint="for example: tcp port 80, host 172.17.0.2, icmp or arp, not port 53",
        )

    def peek(self) -> str:
        return self.words[self.position].lower() if self.position < len(self.words) else ""

    def take(self) -> str:
        word = self.peek()
        if not word:
            raise self.error()
        self.position += 1
        return word

    def either(self) -> Test:
        found = self.both()
        while self.peek() == "or":
            self.take()
            left, right = found, self.both()
            found = _or(left, right)
        return found

    def both(self) -> Test:
        found = self.one()
        while self.peek() and self.peek() not in ("or", ")"):
            # `tcp port 80` is `tcp and port 80`, as tcpdump has it.
            if self.peek() == "and":
                self.take()
            left, right = found, self.one()
            found = _and(left, right)
        return found

    def one(self) -> Test:
        word = self.peek()
        if word in ("not", "!"):
            self.take()
            inner = self.one()
            return lambda packet: not inner(packet)
        if word == "(":
            self.take()
            found = self.either()
            if self.peek() != ")":
                raise self.error()
            self.take()
            return found
        return self.primitive()

    def primitive(self) -> Test:
        word = self.peek()
        if word in _LAYERS:
            self.take()
            names = _LAYERS[word]
            return lambda packet: any(layer.name in names for layer in packet.layers)
        if word == "vlan":
            self.take()
            return lambda packet: any("vlan" in layer.fields for layer in packet.layers)
        ends: tuple[str, ...] = ("src", "dst")
        if word in ends:
            ends = (self.take(),)
        kind = self.peek()
        if kind in ("host", "net", "port", "portrange"):
            self.take()
            return self.value(kind, ends)
        if len(ends) == 1:
            return self.value("host", ends)
        raise self.error()

    def value(self, kind: str, ends: tuple[str, ...]) -> Test:
        text = self.peek()
        try:
            if kind in ("port", "portrange"):
                first, _, last = text.partition("-")
                low, high = int(first), int(last or first)
                self.take()
                return _ports(low, high, ends)
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise self.error() from None
        self.take()
        return _addresses(network, ends)


def _or(left: Test, right: Test) -> Test:
    return lambda packet: left(packet) or right(packet)


def _and(left: Test, right: Test) -> Test:
    return lambda packet: left(packet) and right(packet)


def _ports(low: int, high: int, ends: tuple[str, ...]) -> Test:
    keys = tuple(f"{end}_port" for end in ends)
    return lambda packet: any(
        low <= layer.fields[key] <= high
        for layer in packet.layers
        for key in keys
        if key in layer.fields
    )


def _addresses(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, ends: tuple[str, ...]
) -> Test:
    keys = {"src": ("src", "sender_ip"), "dst": ("dst", "target_ip")}

    def test(packet: Packet) -> bool:
        for layer in packet.layers:
            if layer.name not in ("IPv4", "IPv6", "ARP"):
                continue
            for end in ends:
                for key in keys[end]:
                    text = layer.fields.get(key)
                    if text is not None and ipaddress.ip_address(text) in network:
                        return True
        return False

    return test
