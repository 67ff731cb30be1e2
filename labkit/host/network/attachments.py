"""One bridge and one interface of a container as values, and what is done inside the container."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from labkit.base.errors import SystemFailure, Unsupported
from labkit.host.network import links
from labkit.host.network.netlink import Address, NetlinkSocket
from labkit.host.network.rules import BridgeRules

__all__ = ["Attachment", "BridgeSpec", "configure", "no_lan", "set_default_routes", "write_sysctl"]


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """One bridge network as the kernel must have it."""

    rules: BridgeRules
    addresses: tuple[str, ...]
    """Of the gateway, with the prefix: `172.18.0.1/16`."""
    mtu: int = 0
    mac: str = ""
    is_adopted: bool = False
    """The bridge was there before (com.docker.network.bridge.name): never removed."""

    @property
    def name(self) -> str:
        return self.rules.bridge


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of a container."""

    interface: str
    """Inside: `eth0`."""
    addresses: tuple[str, ...]
    mac: str
    host_name: str = ""
    """Outside: `veth1a2b3c4`, on `bridge`."""
    bridge: str = ""
    mtu: int = 0
    isolated: bool = False
    has_ipv6: bool = False
    parent: str = ""
    """For macvlan and ipvlan: the host's interface it lies on."""
    kind: str = "veth"
    mode: str = ""
    sysctls: tuple[tuple[str, str], ...] = field(default=())


def write_sysctl(name: str, value: str) -> bool:
    """Set `net/…` in the calling thread's network namespace; False where it cannot be set."""
    try:
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        return False
    return True


def no_lan(driver: str) -> Unsupported:
    """The refusal for a driver that this kernel lacks."""
    return Unsupported(
        f"cannot make a network of the driver {driver}: this kernel has no {driver}",
        hint="a bridge network does the same for containers of one host",
    )


def configure(inside: NetlinkSocket, item: Attachment) -> None:
    """Addresses and settings of an interface that has arrived; then it goes up."""
    index = links.index_of(item.interface)
    if not index:
        raise SystemFailure(f"cannot configure {item.interface}: it has not arrived")
    if not item.has_ipv6 and os.path.isdir("/proc/sys/net/ipv6"):
        write_sysctl(f"net/ipv6/conf/{item.interface}/disable_ipv6", "1")
    elif item.has_ipv6:
        write_sysctl(f"net/ipv6/conf/{item.interface}/disable_ipv6", "0")
        write_sysctl(f"net/ipv6/conf/{item.interface}/accept_ra", "0")
    for name, value in item.sysctls:
        write_sysctl(name, value)
    inside.send(
        [
            *(links.add_address(index, address) for address in item.addresses),
            links.set_link(index, up=True),
        ]
    )


def set_default_routes(inside: NetlinkSocket, gateways: Sequence[Address]) -> None:
    """Default routes by these gateways, one of each IP version."""
    inside.send(
        [
            links.add_route("0.0.0.0/0" if gateway.version == 4 else "::/0", gateway=gateway)
            for gateway in gateways
        ]
    )
