"""Which subnet a network gets, and which address a container gets in it. Pure.

Docker's rules: without --subnet the first pool of 172.17.0.0/16 … 172.31.0.0/16, then
192.168.0.0/20 …, that overlaps no other network (nor a route of the host, if the caller says
which there are). In a pool the gateway is the first usable address unless named; addresses are
given out lowest first, so one that was released is used again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.base.errors import Forbidden, InvalidParameter, SystemFailure
from labkit.host.network.netlink import Address

__all__ = ["DEFAULT_POOLS", "Pool", "choose_subnet", "choose_subnet_v6", "mac_for", "parse_pools"]

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_POOLS: tuple[ipaddress.IPv4Network, ...] = (
    *(ipaddress.IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    *ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)
"""Docker's predefined pools, in the order in which they are tried."""


@dataclass(slots=True)
class Pool:
    """One subnet of a network and what is given out of it."""

    subnet: Subnet
    gateway: Address | None
    ip_range: Subnet | None = None
    auxiliary: Mapping[str, Address] = field(default_factory=dict)
    taken: dict[Address, str] = field(default_factory=dict)
    """Addresses in use, and whose they are."""
    is_user_chosen: bool = False

    def _reserved(self) -> set[Address]:
        found: set[Address] = set(self.auxiliary.values())
        if self.gateway is not None:
            found.add(self.gateway)
        if self.subnet.version == 6 or self.subnet.prefixlen < 31:
            found.add(self.subnet.network_address)
        if self.subnet.version == 4 and self.subnet.prefixlen < 31:
            found.add(self.subnet.broadcast_address)
        return found

    def _candidates(self) -> Iterator[Address]:
        span = self.ip_range or self.subnet
        first, last = int(span.network_address), int(span.broadcast_address)
        kind = ipaddress.IPv6Address if span.version == 6 else ipaddress.IPv4Address
        for number in range(first, last + 1):
            yield kind(number)

    def take(self, owner: str, wanted: Address | None = None) -> Address:
        """Give `owner` an address: the one wanted, or the lowest that is free.

        Raises Forbidden with Docker's sentence for one in use, InvalidParameter for one that is
        not of this subnet, SystemFailure when there is none left.
        """
        reserved = self._reserved()
        if wanted is not None:
            if wanted not in self.subnet:
                raise InvalidParameter(
                    f"invalid config for network: invalid endpoint settings:\nno configured subnet "
                    f"contains IP address {wanted}"
                )
            if wanted in reserved or wanted in self.taken:
                raise Forbidden(
                    "Address already in use",
                    hint=f"{wanted} is {self._holder(wanted)}; leave --ip away to get a free one",
                )
            self.taken[wanted] = owner
            return wanted
        for candidate in self._candidates():
            if candidate not in self.taken and candidate not in reserved:
                self.taken[candidate] = owner
                return candidate
        raise SystemFailure(
            "no available IPv4 addresses on this network's address pools: "
            f"{self.ip_range or self.subnet}"
            if self.subnet.version == 4
            else f"no available IPv6 addresses on this network's address pools: {self.subnet}",
            hint="remove containers, or create the network with a larger --subnet",
        )

    def _holder(self, address: Address) -> str:
        if address in self.taken:
            return f"held by endpoint {self.taken[address][:12]}"
        if address == self.gateway:
            return "the gateway"
        return "set aside by the network's configuration"

    def release(self, address: Address, owner: str) -> None:
        """Give an address back; nothing happens if it is not `owner`'s."""
        if self.taken.get(address) == owner:
            del self.taken[address]

    def to_json(self) -> dict[str, Any]:
        """Docker's IPAM.Config entry."""
        found: dict[str, Any] = {"Subnet": str(self.subnet)}
        if self.ip_range is not None:
            found["IPRange"] = str(self.ip_range)
        if self.gateway is not None:
            found["Gateway"] = str(self.gateway)
        if self.auxiliary:
            found["AuxiliaryAddresses"] = {k: str(v) for k, v in self.auxiliary.items()}
        return found


def _overlaps(subnet: Subnet, others: Iterable[Subnet]) -> Subnet | None:
    for other in others:
        if other.version == subnet.version and subnet.overlaps(other):
            return other
    return None


def choose_subnet(
    used: Iterable[Subnet],
    avoid: Iterable[Subnet] = (),
    pools: Iterable[ipaddress.IPv4Network] = DEFAULT_POOLS,
) -> ipaddress.IPv4Network:
    """The first of `pools` that is free. Raises SystemFailure when all are used up."""
    taken = [*used, *avoid]
    for pool in pools:
        if _overlaps(pool, taken) is None:
            return pool
    raise SystemFailure(
        "all predefined address pools have been fully subnetted",
        hint="`docker network prune` removes networks nobody uses; or name a --subnet",
    )


def choose_subnet_v6(used: Iterable[Subnet], seed: bytes) -> ipaddress.IPv6Network:
    """A /64 of the host's own unique local prefix (RFC 4193); `seed` is five random bytes."""
    base = int.from_bytes(b"\xfd" + seed[:5] + bytes(10), "big")
    taken = list(used)
    for number in range(1 << 16):
        pool = ipaddress.IPv6Network((base | number << 64, 64))
        if _overlaps(pool, taken) is None:
            return pool
    raise SystemFailure("all predefined address pools have been fully subnetted")


def _network(text: str, what: str) -> Subnet:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidParameter(
            f"invalid network config:\ninvalid {what} {text}: invalid CIDR block notation"
        ) from None


def _address(text: str, what: str, subnet: Subnet) -> Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidParameter(
            f"invalid network config:\ninvalid {what} address {text}: invalid address"
        ) from None
    if found not in subnet:
        raise InvalidParameter(
            f"invalid network config:\ninvalid {what} {found}: parent subnet {subnet} doesn't "
            "contain this address"
        )
    return found


def parse_pools(config: Iterable[Mapping[str, Any]]) -> list[Pool]:
    """IPAM.Config of a create request, checked; entries without a subnet are refused as Docker
    does. A gateway not named stays None: `with_gateway` chooses one."""
    pools: list[Pool] = []
    for entry in config:
        text = str(entry.get("Subnet") or "")
        if not text:
            if entry.get("IPRange") or entry.get("Gateway") or entry.get("AuxiliaryAddresses"):
                raise InvalidParameter("invalid network config:\nempty subnet")
            continue
        subnet = _network(text, "subnet")
        if str(subnet) != text:
            raise InvalidParameter(
                f"invalid network config:\ninvalid subnet {text}: it should be {subnet}"
            )
        other = _overlaps(subnet, (pool.subnet for pool in pools))
        if other is not None:
            raise InvalidParameter("invalid network config:\nsubnets overlap: " + text)
        ip_range = None
        if entry.get("IPRange"):
            ip_range = _network(str(entry["IPRange"]), "ip-range")
            if ip_range.version != subnet.version or not ip_range.subnet_of(subnet):  # type: ignore[arg-type]
                raise InvalidParameter(
                    f"invalid network config:\ninvalid ip-range {ip_range}: parent subnet {subnet} "
                    "doesn't contain ip-range"
                )
        gateway = (
            _address(str(entry["Gateway"]), "gateway", subnet) if entry.get("Gateway") else None
        )
        auxiliary = {
            str(name): _address(str(value), "auxiliary address", subnet)
            for name, value in (entry.get("AuxiliaryAddresses") or {}).items()
        }
        pools.append(Pool(subnet, gateway, ip_range, auxiliary, is_user_chosen=True))
    return pools


def first_gateway(pool: Pool) -> Address | None:
    """The address a network's gateway gets when none is named: the first one that is usable."""
    if pool.subnet.num_addresses < 2:
        return None
    span = pool.ip_range or pool.subnet
    start = int(span.network_address)
    for offset in range(min(span.num_addresses, 1 << 16)):
        candidate = (
            ipaddress.ip_address(start + offset)
            if span.version == 4
            else (ipaddress.IPv6Address(start + offset))
        )
        if candidate not in pool._reserved():
            return candidate
    return None


def mac_for(address: Address) -> str:
    """Docker's address of the link layer for a container: 02:42 and the four bytes of IPv4."""
    packed = address.packed[-4:]
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *packed))
