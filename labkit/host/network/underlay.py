"""The network between simulated nodes: one bridge on the lab's default host, one cable to each.

    default host                       node-1                    node-2
      underlay0 192.168.99.1/20          eth0 192.168.99.101/20    eth0 192.168.99.102/20
        ├── nd1 ───────────────────────────┘                         │
        └── nd2 ─────────────────────────────────────────────────────┘

What nodes say to each other crosses it as real packets, and what breaks it is a rule of the node
that receives: table `inet labkit-chaos`, which students can list (`nft list ruleset`). Delays are
queues of the node that sends (delays.py); where the kernel has none they are refused by name.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.base.errors import Unsupported
from labkit.host.network import delays, nft
from labkit.host.network.links import (
    add_address,
    add_bridge,
    add_route,
    add_veth,
    delete_link,
    index_of,
    list_links,
    set_link,
)
from labkit.host.network.namespaces import NamespaceWorker
from labkit.host.network.netlink import Message, NetlinkError, NetlinkSocket, attribute, nested
from labkit.host.network.nft import expr

__all__ = ["BRIDGE", "GATEWAY", "SUBNET", "Damage", "Underlay", "address_of"]

SUBNET = ipaddress.IPv4Network("192.168.96.0/20")
"""Room for four thousand nodes. docker-machine's hosts are at 192.168.99.100 and up as well."""
GATEWAY = ipaddress.IPv4Address("192.168.99.1")
_FIRST = ipaddress.IPv4Address("192.168.99.100")
BRIDGE = "underlay0"
INTERFACE = "eth0"
_TABLE = ("inet", "labkit-chaos")
_MTU = 1500
_NUMGEN_RANDOM = 1
_CMP_LT = 2
_HTON = 1
_PER_MILLE = 1000


@dataclass(frozen=True, slots=True)
class Damage:
    """What a node loses of one peer's packets: all of them, or a share from 0 to 1."""

    cut: bool = False
    loss: float = 0.0


def address_of(number: int) -> ipaddress.IPv4Address:
    """The underlay address of node `number` (from 1)."""
    room = int(SUBNET.broadcast_address) - int(_FIRST)
    low = int(SUBNET.network_address) + 1
    # Past the end it goes on at the subnet's beginning, below the gateway.
    place = int(_FIRST) + number if number < room else low + number - room
    return ipaddress.IPv4Address(place)


def _ensure_bridge() -> None:
    with NetlinkSocket() as sock:
        names = {link.name for link in list_links(sock)}
        if BRIDGE not in names:
            sock.send([add_bridge(BRIDGE, mtu=_MTU)])
        sock.send([add_address(index_of(BRIDGE), f"{GATEWAY}/{SUBNET.prefixlen}")])


def _port(number: int) -> str:
    return f"nd{number}"


class Underlay:
    """`home` is a descriptor of the network namespace that holds the bridge."""

    def __init__(self, home: int, worker: NamespaceWorker | None = None) -> None:
        self._home = home
        self._worker = worker or NamespaceWorker()

    def close(self) -> None:
        """End the worker; cables and bridge stay."""
        self._worker.close()

    async def open(self) -> None:
        """Make the bridge if it is not there. Raises NetlinkError."""
        await self._worker.run(self._home, _ensure_bridge)

    async def plug(self, number: int, node: int) -> ipaddress.IPv4Address:
        """Connect a node (a descriptor of its namespace); its address. A cable that is there stays.

        Raises NetlinkError, naming what the kernel refused.
        """
        address = address_of(number)

        def cable() -> None:
            with NetlinkSocket() as sock:
                if _port(number) in {link.name for link in list_links(sock)}:
                    return
                master = index_of(BRIDGE)
                sock.send(
                    [
                        add_veth(
                            _port(number),
                            INTERFACE,
                            peer_namespace=node,
                            master=master,
                            mtu=_MTU,
                        )
                    ]
                )

        def inside() -> None:
            with NetlinkSocket() as sock:
                index = index_of(INTERFACE)
                sock.send(
                    [
                        set_link(index_of("lo"), up=True),
                        add_address(index, f"{address}/{SUBNET.prefixlen}"),
                        set_link(index, up=True),
                        add_route("0.0.0.0/0", gateway=GATEWAY, index=index, metric=1000),
                    ]
                )

        await self._worker.run(self._home, cable)
        await self._worker.run(node, inside)
        return address

    async def unplug(self, number: int) -> None:
        """Pull a node's cable; one that is gone is fine."""

        def work() -> None:
            with NetlinkSocket() as sock:
                found = [link.index for link in list_links(sock) if link.name == _port(number)]
                if found:
                    sock.send([delete_link(index) for index in found])

        await self._worker.run(self._home, work)

    async def remove(self) -> None:
        """Remove the bridge, when the last node is gone."""

        def work() -> None:
            with NetlinkSocket() as sock:
                found = [link.index for link in list_links(sock) if link.name == BRIDGE]
                if found:
                    sock.send([delete_link(index) for index in found])

        await self._worker.run(self._home, work)

    async def damage(self, node: int, peers: Mapping[ipaddress.IPv4Address, Damage]) -> None:
        """What this node loses from now on, in place of what it lost before.

        Raises NetlinkError where the kernel has no nftables.
        """
        rules = [_losing(peer, found) for peer, found in sorted(peers.items())]

        def work() -> None:
            messages: list[Message] = [nft.add_table(*_TABLE), nft.delete_table(*_TABLE)]
            if rules:
                messages.append(nft.add_table(*_TABLE))
                messages.append(
                    nft.add_chain(
                        *_TABLE, "underlay", kind="filter", hook="prerouting", priority=-350
                    )
                )
                messages += [nft.add_rule(*_TABLE, "underlay", rule) for rule in rules]
            with nft.open_socket() as sock:
                nft.commit(sock, messages)

        await self._worker.run(node, work)

    async def delay(self, node: int, peers: Mapping[ipaddress.IPv4Address, float]) -> None:
        """Delay what this node sends to peers by so many milliseconds, in place of before.

        Raises Unsupported, naming the packets, where the kernel has no such queues.
        """

        def work() -> None:
            index = index_of(INTERFACE)
            with NetlinkSocket() as sock:
                for message in delays.messages(index, peers):
                    sock.send([message])

        try:
            await self._worker.run(node, work)
        except NetlinkError as error:
            if not peers or error.code not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
            named = ", ".join(str(peer) for peer in sorted(peers))
            raise Unsupported(
                f"cannot delay packets to {named}: this kernel has no delaying queues (netem): "
                f"{error.message}",
                hint="messages of the control plane are delayed all the same",
            ) from error


def _losing(peer: ipaddress.IPv4Address, damage: Damage) -> list[bytes]:
    name = INTERFACE.encode().ljust(16, b"\0")
    rule = [
        expr.meta("iifname"),
        expr.cmp(name),
        expr.meta("nfproto"),
        expr.cmp(b"\x02"),
        expr.payload("network", 12, 4),
        expr.cmp(peer.packed),
    ]
    if not damage.cut:
        rule += _by_chance(damage.loss)
    return [*rule, expr.counter(), expr.verdict(nft.DROP)]


def _by_chance(share: float) -> list[bytes]:
    """`numgen random mod 1000 < n`: the number is the machine's, comparisons are the network's."""
    limit = round(share * _PER_MILLE)

    def u32(kind: int, value: int) -> bytes:
        return attribute(kind, struct.pack("!I", value))

    def make(name: str, *inner: bytes) -> bytes:
        return attribute(1, name) + nested(2, *inner)

    return [
        make("numgen", u32(1, 1), u32(2, _PER_MILLE), u32(3, _NUMGEN_RANDOM), u32(4, 0)),
        make("byteorder", u32(1, 1), u32(2, 1), u32(3, _HTON), u32(4, 4), u32(5, 4)),
        make(
            "cmp",
            u32(1, 1),
            u32(2, _CMP_LT),
            nested(3, attribute(1, struct.pack("!I", limit))),
        ),
    ]
