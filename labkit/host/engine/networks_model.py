"""Networks and endpoints as values, and the form in which they are recorded."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.host.engine.hostconfig import EndpointConfig
from labkit.host.engine.wire import read, write
from labkit.host.network.ipam import Pool

if TYPE_CHECKING:
    from labkit.host.network.netlink import Address

__all__ = ["BUILT_IN", "Endpoint", "Live", "Network"]

BUILT_IN = ("bridge", "host", "none")


@dataclass(slots=True)
class Live:
    """What an endpoint has while its container runs."""

    endpoint_id: str
    v4: ipaddress.IPv4Address | None
    v6: ipaddress.IPv6Address | None
    mac: str
    interface: str
    """Inside the container: eth0."""
    host_name: str
    """On the lab host: veth1a2b3c4."""
    dns_names: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(found for found in (self.v4, self.v6) if found is not None)

    def to_json(self) -> dict[str, Any]:
        return {
            "endpoint_id": self.endpoint_id,
            "v4": str(self.v4 or ""),
            "v6": str(self.v6 or ""),
            "mac": self.mac,
            "interface": self.interface,
            "host_name": self.host_name,
            "dns_names": list(self.dns_names),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Live:
        return cls(
            found["endpoint_id"],
            ipaddress.IPv4Address(found["v4"]) if found["v4"] else None,
            ipaddress.IPv6Address(found["v6"]) if found["v6"] else None,
            found["mac"],
            found["interface"],
            found["host_name"],
            tuple(found["dns_names"]),
        )


@dataclass(slots=True)
class Endpoint:
    """A container's place on one network: what was asked for, and while it runs what it has."""

    container: str
    network_name: str
    """As the user called it: the key in NetworkSettings.Networks."""
    network_id: str
    """Empty when no such network existed when the container was made."""
    settings: EndpointConfig
    live: Live | None = None
    ports: tuple[dict[str, Any], ...] = ()
    """Published ports, on the endpoint that carries them: see networking_ports."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.network_name,
            "network": self.network_id,
            "settings": write(self.settings),
            "live": None if self.live is None else self.live.to_json(),
            "ports": list(self.ports),
        }

    @classmethod
    def from_json(cls, container: str, found: Mapping[str, Any]) -> Endpoint:
        return cls(
            container,
            found["name"],
            found["network"],
            read(EndpointConfig, found["settings"]),
            None if found["live"] is None else Live.from_json(found["live"]),
            tuple(found["ports"]),
        )


@dataclass(slots=True, eq=False)
class Network:
    """One network of a host."""

    id: str
    name: str
    driver: str
    created_ns: int
    pools: list[Pool] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    scope: str = "local"
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    config_only: bool = False
    config_from: str = ""
    removing: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """Live ones, by container."""
    directory: dict[str, list[Endpoint]] = field(default_factory=dict)
    """Who answers to a name, in lower case; only on networks with a resolver."""
    services: dict[str, list[Address]] = field(default_factory=dict)
    """Names that stand for no single container: a service's virtual address, a stack's tasks."""

    @property
    def is_built_in(self) -> bool:
        return self.name in BUILT_IN

    @property
    def has_names(self) -> bool:
        """Containers find each other by name here: not on the default bridge, host and none."""
        return not self.is_built_in

    @property
    def bridge(self) -> str:
        """The bridge's name on the lab host; empty for drivers without one."""
        if self.driver != "bridge":
            return ""
        return self.options.get("com.docker.network.bridge.name") or f"br-{self.id[:12]}"

    @property
    def mtu(self) -> int:
        """Zero is the kernel's own."""
        text = self.options.get("com.docker.network.driver.mtu", "0")
        return int(text) if text.isdecimal() else 0

    def option(self, name: str, *, default: bool) -> bool:
        """An option that is true or false, by its full name."""
        text = self.options.get(name, "")
        return default if not text else text.strip().lower() in ("1", "t", "true")

    def gateway(self, version: int) -> Address | None:
        """The gateway of the first pool of an IP version."""
        pool = self.pool(version)
        return None if pool is None else pool.gateway

    def pool(self, version: int) -> Pool | None:
        return next((pool for pool in self.pools if pool.subnet.version == version), None)

    def pool_of(self, address: Address) -> Pool | None:
        return next((pool for pool in self.pools if address in pool.subnet), None)

    def to_json(self) -> dict[str, Any]:
        """The form kept in the records."""
        return {
            "id": self.id,
            "name": self.name,
            "driver": self.driver,
            "created_ns": self.created_ns,
            "pools": [{**pool.to_json(), "user": pool.is_user_chosen} for pool in self.pools],
            "options": self.options,
            "labels": self.labels,
            "ipam_driver": self.ipam_driver,
            "ipam_options": self.ipam_options,
            "scope": self.scope,
            "internal": self.internal,
            "attachable": self.attachable,
            "ingress": self.ingress,
            "enable_ipv4": self.enable_ipv4,
            "enable_ipv6": self.enable_ipv6,
            "config_only": self.config_only,
            "config_from": self.config_from,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Network:
        """The inverse of `to_json`."""
        values = {key: value for key, value in found.items() if key != "pools"}
        pools = [
            Pool(
                ipaddress.ip_network(entry["Subnet"]),
                ipaddress.ip_address(entry["Gateway"]) if "Gateway" in entry else None,
                ipaddress.ip_network(entry["IPRange"]) if "IPRange" in entry else None,
                {
                    name: ipaddress.ip_address(text)
                    for name, text in entry.get("AuxiliaryAddresses", {}).items()
                },
                is_user_chosen=entry["user"],
            )
            for entry in found["pools"]
        ]
        return cls(**values, pools=pools)
