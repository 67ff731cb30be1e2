"""The way out of a lab host: a pair of links to the machine, and one rule of our own there.

The lab host's `eth0` and an interface of the machine (`lk-` and the lab's number) are the two ends
of one cable with a /30 of the addresses set aside for benchmarks (RFC 2544: nobody has them). What
leaves is masqueraded by a table of this lab's own in the machine's nftables; it speaks of these
two addresses only, and goes when the lab is taken down. Nothing else of the machine is changed:
where it does not forward, or where its firewall drops what is forwarded, the lab says so, names
the rule, and prints the command with which its owner may let the lab through.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import struct
from dataclasses import dataclass

from labkit.base.errors import LabkitError
from labkit.host.network import links, nft
from labkit.host.network.netlink import (
    Message,
    NetlinkError,
    NetlinkSocket,
    each_attribute,
    parse_attributes,
)
from labkit.host.network.nft import expr
from labkit.host.network.plumbing import Plumbing

__all__ = ["Firewall", "Uplink", "has_default_route", "machine_firewall"]

_TABLE_V4 = 4


@dataclass(frozen=True, slots=True)
class Firewall:
    """A rule set of the machine that drops what it should forward for us."""

    family: str
    table: str
    chain: str

    def sentence(self, interface: str) -> str:
        """What is wrong, and the command that lets the lab through."""
        return (
            f"the machine's firewall drops forwarded packets (table {self.family} {self.table}, "
            f"chain {self.chain}, policy drop); its owner may let the lab out with: nft insert "
            f"rule {self.family} {self.table} {self.chain} iifname {interface} accept; nft insert "
            f"rule {self.family} {self.table} {self.chain} oifname {interface} ct state "
            "established,related accept"
        )


def has_default_route() -> bool:
    """Whether the calling thread's namespace has an IPv4 default route."""
    try:
        with open("/proc/thread-self/net/route", encoding="ascii") as file:
            return any(
                words[1] == "00000000" and words[7] == "00000000" and words[0] != "lo"
                for words in (line.split() for line in file.readlines()[1:])
            )
    except (OSError, IndexError):
        return False


def _is_forwarding() -> bool:
    try:
        with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def machine_firewall(own_table: str = "") -> Firewall | None:
    """A base chain on the forward hook whose policy is drop, in the calling thread's namespace.

    None where there is none, or where the rules may not be read.
    """
    names = {number: name for name, number in nft.FAMILIES.items()}
    try:
        with nft.open_socket() as handle:
            request = Message(
                (10 << 8) | nft.GETCHAIN, 0, struct.pack("!BBH", 0, 0, 0), "list chains"
            )
            found = handle.dump(request)
    except (NetlinkError, OSError):
        return None
    for _, body in found:
        family = names.get(body[0], "")
        values = parse_attributes(body, 4)
        table = values.get(1, b"").rstrip(b"\0").decode()
        hook = dict(each_attribute(values.get(4, b"")))
        is_forward = struct.unpack("!I", hook[1])[0] == 2 if 1 in hook else False
        policy = struct.unpack("!I", values[5])[0] if 5 in values else nft.ACCEPT
        if family in ("ip", "inet") and is_forward and policy == nft.DROP and table != own_table:
            return Firewall(family, table, values.get(3, b"").rstrip(b"\0").decode())
    return None


def _machine_subnets() -> list[ipaddress.IPv4Network]:
    found = []
    with contextlib.suppress(OSError), open("/proc/net/route", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            words = line.split()
            address = socket.inet_ntoa(struct.pack("=I", int(words[1], 16)))
            mask = socket.inet_ntoa(struct.pack("=I", int(words[7], 16)))
            network = ipaddress.IPv4Network(f"{address}/{mask}", strict=False)
            if network.prefixlen:
                found.append(network)
    return found


class Uplink:
    """One lab host's cable to the machine (rootful only: it needs the machine's namespace)."""

    def __init__(self, plumbing: Plumbing, instance: str) -> None:
        self._plumbing = plumbing
        self.instance = instance
        self.interface = f"lk-{instance}"
        self.table = f"labkit_{instance}"
        self.problem = ""
        """Why nothing gets out although the machine has a road; empty when all is well."""
        self.machine_address: ipaddress.IPv4Address | None = None
        self.host_address: ipaddress.IPv4Address | None = None

    def _subnet(self) -> ipaddress.IPv4Network:
        """A /30 of 198.18.0.0/15 that this machine has no road to yet."""
        used = _machine_subnets()
        start = int(hashlib.sha256(self.instance.encode()).hexdigest()[:8], 16)
        for offset in range(1 << 15):
            number = (start + offset) % (1 << 15)
            subnet = ipaddress.IPv4Network((int(ipaddress.IPv4Address("198.18.0.0")) + number * 4,
                                            30))  # fmt: skip
            if not any(subnet.overlaps(other) for other in used):
                return subnet
        return ipaddress.IPv4Network("198.18.0.0/30")

    async def open(self) -> None:
        """Connect, or take up what an earlier daemon connected. Raises LabkitError."""
        await self._plumbing.worker.run(None, self._open)

    def _open(self) -> None:
        old = links.index_of(self.interface)
        with NetlinkSocket() as machine:
            if old:
                # The other end may be in a host that is gone: a fresh pair costs a millisecond.
                machine.send([links.delete_link(old)])
            subnet = self._subnet()
            outer, inner = subnet[1], subnet[2]
            machine.send(
                [links.add_veth(self.interface, "eth0", peer_namespace=self._plumbing.namespace)]
            )
            index = links.index_of(self.interface)
            machine.send([links.add_address(index, f"{outer}/30")])
        self._plumbing.worker.run_nowait(
            self._plumbing.namespace, lambda: _inner_end(f"{inner}/30", outer)
        )
        self.machine_address, self.host_address = outer, inner
        if not _is_forwarding():
            self.problem = (
                "this machine does not forward packets (net.ipv4.ip_forward is 0); its owner may "
                "let the lab out with: sysctl -w net.ipv4.ip_forward=1"
            )
        self._masquerade(subnet)
        firewall = machine_firewall(self.table)
        if firewall is not None:
            self.problem = firewall.sentence(self.interface)

    def _masquerade(self, subnet: ipaddress.IPv4Network) -> None:
        rule = [
            expr.payload("network", 12, 4),
            expr.bits(subnet.netmask.packed),
            expr.cmp(subnet.network_address.packed),
            expr.meta("oifname", 2),
            expr.cmp(nft.key(self.interface), differs=True, register=2),
            expr.masquerade(),
        ]
        with nft.open_socket() as handle:
            nft.commit(
                handle,
                [
                    nft.add_table("ip", self.table),
                    nft.delete_table("ip", self.table),
                    nft.add_table("ip", self.table),
                    nft.add_chain(
                        "ip", self.table, "postrouting", kind="nat", hook="postrouting",
                        priority=100,
                    ),
                    nft.add_rule("ip", self.table, "postrouting", rule),
                ],
            )  # fmt: skip

    async def remove(self) -> None:
        """Take cable and table away; what is gone is fine."""

        def work() -> None:
            with contextlib.suppress(LabkitError, OSError), nft.open_socket() as handle:
                nft.commit(handle, [nft.delete_table("ip", self.table)])
            index = links.index_of(self.interface)
            if index:
                with contextlib.suppress(LabkitError), NetlinkSocket() as machine:
                    machine.send([links.delete_link(index)])

        await self._plumbing.worker.run(None, work)


def _inner_end(address: str, gateway: ipaddress.IPv4Address) -> None:
    with NetlinkSocket() as inside:
        index = links.index_of("eth0")
        inside.send(
            [
                links.add_address(index, address),
                links.set_link(index, up=True),
                links.add_route("0.0.0.0/0", gateway=gateway),
            ]
        )
