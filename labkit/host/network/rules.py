"""The lab host's own nftables table: what may pass between networks, and who answers on which port.

Networks and published ports are elements of sets and maps, so a change is one small transaction
and the rules themselves never grow: the two-hundredth published port costs what the first did.

    table inet labkit
      prerouting, output (nat)   published ports: (address, protocol, port) → container
      prerouting (filter)        127.0.0.0/8 is nobody's but the host's
      forward                    one network does not reach another; internal ones reach nothing
      postrouting (nat)          networks go out under the host's address
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.host.network.netlink import Address, Message, NetlinkError
from labkit.host.network.nft import (
    ACCEPT,
    DROP,
    IFNAME,
    IPV4,
    IPV6,
    PORT,
    PROTOCOL,
    Element,
    add_chain,
    add_elements,
    add_rule,
    add_set,
    add_table,
    commit,
    delete_elements,
    delete_table,
    expr,
    interval,
    key,
    open_socket,
)

__all__ = ["TABLE", "BridgeRules", "PortRule", "Rules"]

TABLE = "labkit"
_FAMILY = "inet"
_NFPROTO_V4, _NFPROTO_V6 = b"\x02", b"\x0a"
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """What the rules need to know about one bridge network."""

    bridge: str
    subnets: tuple[Subnet, ...]
    is_internal: bool = False
    masquerade: bool = True


@dataclass(frozen=True, slots=True)
class PortRule:
    """One published port. `host` None is every address of the lab host."""

    protocol: str
    host: Address | None
    host_port: int
    address: Address
    port: int


def _interface(word: str, name: str, *, absent: bool = False) -> list[bytes]:
    return [expr.meta(word), expr.lookup(name, absent=absent)]


def _family(number: bytes) -> list[bytes]:
    return [expr.meta("nfproto"), expr.cmp(number)]


def _publish(version: int) -> list[list[bytes]]:
    """The two rules of one IP version that send published ports to their containers."""
    number, offset, width, proto = (
        (_NFPROTO_V4, 16, 4, 2) if version == 4 else (_NFPROTO_V6, 24, 16, 10)
    )
    # The port's register comes after the address, which fills one or four of them.
    first, port = 8 + width // 4, 8 + width // 4
    at = [
        *_family(number),
        expr.payload("network", offset, width, 1),
        expr.meta("l4proto", first),
        expr.payload("transport", 2, 2, first + 1),
        expr.lookup(f"ports_at{version}", register=1, into=1),
        expr.dnat(proto, 1, port),
    ]
    everywhere = [
        *_family(number),
        expr.fib_daddr_type(),
        expr.cmp(struct.pack("=I", 2)),
        expr.meta("l4proto"),
        expr.payload("transport", 2, 2, 9),
        expr.lookup(f"ports{version}", register=1, into=1),
        expr.dnat(proto, 1, port),
    ]
    return [at, everywhere]


def _masquerade(version: int) -> list[list[bytes]]:
    number, offset, width = (_NFPROTO_V4, 12, 4) if version == 4 else (_NFPROTO_V6, 8, 16)
    source = [*_family(number), expr.payload("network", offset, width)]
    dnat_status = struct.pack("=I", 1 << 5)
    outside = _interface("oifname", "bridges", absent=True)
    going_out = [*source, expr.lookup(f"masquerade{version}"), *outside, expr.masquerade()]
    # A container that asks a published port of its own network: the answer must come back here.
    hairpin = [
        *source, expr.lookup(f"subnets{version}"), *_interface("oifname", "bridges"),
        expr.ct("status"), expr.bits(dnat_status), expr.cmp(bytes(4), differs=True),
        expr.masquerade(),
    ]  # fmt: skip
    rules = [going_out, hairpin]
    if version == 4:
        rules.append([
            *source, expr.bits(b"\xff\0\0\0"), expr.cmp(b"\x7f\0\0\0"),
            *_interface("oifname", "bridges"), expr.masquerade(),
        ])  # fmt: skip
    return rules


def _forward() -> list[list[bytes]]:
    established = struct.pack("=I", 2 | 4)
    dnat_status = struct.pack("=I", 1 << 5)
    return [
        [expr.ct("state"), expr.bits(established), expr.cmp(bytes(4), differs=True),
         expr.verdict(ACCEPT)],
        [expr.meta("iifname"), expr.meta("oifname", 2), expr.lookup("own"), expr.verdict(ACCEPT)],
        [expr.ct("status"), expr.bits(dnat_status), expr.cmp(bytes(4), differs=True),
         *_interface("iifname", "internal", absent=True), expr.verdict(ACCEPT)],
        [*_interface("iifname", "internal"), expr.counter(), expr.verdict(DROP)],
        [*_interface("oifname", "bridges"), expr.counter(), expr.verdict(DROP)],
    ]  # fmt: skip


def base_messages() -> list[Message]:
    """The table, from nothing: chains, sets and the rules that never change."""
    t = (_FAMILY, TABLE)
    messages = [
        add_table(*t),
        add_set(*t, "bridges", [IFNAME], identifier=1),
        add_set(*t, "internal", [IFNAME], identifier=2),
        add_set(*t, "own", [IFNAME, IFNAME], identifier=3),
    ]
    identifier = 4
    for version, kind in ((4, IPV4), (6, IPV6)):
        for name in ("masquerade", "subnets"):
            messages.append(
                add_set(*t, f"{name}{version}", [kind], is_interval=True, identifier=identifier)
            )
            identifier += 1
        messages.append(
            add_set(*t, f"ports{version}", [PROTOCOL, PORT], [kind, PORT], identifier=identifier)
        )
        messages.append(
            add_set(
                *t,
                f"ports_at{version}",
                [kind, PROTOCOL, PORT],
                [kind, PORT],
                identifier=identifier + 1,
            )
        )
        identifier += 2
    messages += [
        add_chain(*t, "guard", kind="filter", hook="prerouting", priority=-300),
        add_chain(*t, "prerouting", kind="nat", hook="prerouting", priority=-100),
        add_chain(*t, "output", kind="nat", hook="output", priority=-100),
        add_chain(*t, "forward", kind="filter", hook="forward", priority=0),
        add_chain(*t, "postrouting", kind="nat", hook="postrouting", priority=100),
    ]
    guard = [
        *_interface("iifname", "bridges"), *_family(_NFPROTO_V4),
        expr.payload("network", 16, 1), expr.cmp(b"\x7f"), expr.counter(), expr.verdict(DROP),
    ]  # fmt: skip
    messages.append(add_rule(*t, "guard", guard))
    for version in (4, 6):
        for rule in _publish(version):
            messages += [add_rule(*t, "prerouting", rule), add_rule(*t, "output", rule)]
        messages += [add_rule(*t, "postrouting", rule) for rule in _masquerade(version)]
    messages += [add_rule(*t, "forward", rule) for rule in _forward()]
    return messages


def _bridge_elements(network: BridgeRules) -> list[tuple[str, list[Element]]]:
    found = [
        ("bridges", [Element(key(network.bridge))]),
        ("own", [Element(key(network.bridge, network.bridge))]),
    ]
    if network.is_internal:
        found.append(("internal", [Element(key(network.bridge))]))
    for subnet in network.subnets:
        span = list(interval(subnet.network_address.packed, subnet.broadcast_address.packed))
        found.append((f"subnets{subnet.version}", span))
        if network.masquerade and not network.is_internal:
            found.append((f"masquerade{subnet.version}", span))
    return found


def _port_element(rule: PortRule) -> tuple[str, list[Element]]:
    version = rule.address.version
    data = key(rule.address.packed, struct.pack("!H", rule.port))
    port = struct.pack("!H", rule.host_port)
    number = PROTOCOLS[rule.protocol]
    if rule.host is None:
        return f"ports{version}", [Element(key(number, port), data)]
    return f"ports_at{version}", [Element(key(rule.host.packed, number, port), data)]


class Rules:
    """The table of one lab host. Methods run inside its namespace, on the worker's thread."""

    def __init__(self) -> None:
        self._handle = open_socket()

    def close(self) -> None:
        self._handle.close()

    def reset(self, networks: Iterable[BridgeRules], ports: Iterable[PortRule]) -> None:
        """Make the table anew with exactly these, in one transaction: connections go on."""
        messages = [add_table(_FAMILY, TABLE), delete_table(_FAMILY, TABLE), *base_messages()]
        for network in networks:
            messages += self._each(add_elements, _bridge_elements(network))
        messages += self._each(add_elements, [_port_element(port) for port in ports])
        commit(self._handle, messages)

    @staticmethod
    def _each(make: object, entries: Iterable[tuple[str, list[Element]]]) -> list[Message]:
        function = add_elements if make is add_elements else delete_elements
        return [function(_FAMILY, TABLE, name, elements) for name, elements in entries]

    def add_bridge(self, network: BridgeRules) -> None:
        """A new network."""
        commit(self._handle, self._each(add_elements, _bridge_elements(network)))

    def remove_bridge(self, network: BridgeRules) -> None:
        """A network is gone; unknown ones are fine."""
        self._remove(_bridge_elements(network))

    def add_ports(self, ports: Iterable[PortRule]) -> None:
        """Publish."""
        entries = [_port_element(port) for port in ports]
        if entries:
            commit(self._handle, self._each(add_elements, entries))

    def remove_ports(self, ports: Iterable[PortRule]) -> None:
        """Take back what was published; what is gone is fine."""
        self._remove([_port_element(port) for port in ports])

    def _remove(self, entries: list[tuple[str, list[Element]]]) -> None:
        if not entries:
            return
        try:
            commit(self._handle, self._each(delete_elements, entries))
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise
            for entry in entries if len(entries) > 1 else []:
                self._remove([entry])
