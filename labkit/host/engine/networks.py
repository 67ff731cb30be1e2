"""The networks of one host: made, found, listed, removed; and the kernel's side of each.

A network is recorded before its bridge is made and forgotten after that is gone, so that a crash
in between leaves something with an owner. What containers do with networks is networking.py.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Forbidden, InvalidParameter, NotFound, SystemFailure
from labkit.base.ids import is_id_prefix, new_id, short_id
from labkit.host.engine.events import EventLog
from labkit.host.engine.filters import Filters, check_names
from labkit.host.engine.networking_capture import Captures
from labkit.host.engine.networks_create import network_from
from labkit.host.engine.networks_json import matches, network_json
from labkit.host.engine.networks_model import BUILT_IN, Endpoint, Network
from labkit.host.engine.networks_outside import WayOut, bridge_spec
from labkit.host.engine.pruning import matches_prune_filters
from labkit.host.network.ipam import (
    DEFAULT_POOLS,
    Pool,
    Subnet,
    choose_subnet,
    choose_subnet_v6,
    first_gateway,
)

if TYPE_CHECKING:
    from labkit.host.engine.context import Context
    from labkit.host.engine.networking_ports import Publisher
    from labkit.host.network.namespaces import NamespaceWorker
    from labkit.host.network.plumbing import Plumbing

__all__ = ["Networks"]

Json = dict[str, Any]

_PRUNE_FILTERS = frozenset({"until", "label", "label!"})
_UNDERLAY = ipaddress.IPv4Network("192.168.96.0/20")
"""Where simulated nodes live: on the lab host there may be a road to it."""
_DEFAULT_BRIDGE_OPTIONS = {
    "com.docker.network.bridge.default_bridge": "true",
    "com.docker.network.bridge.enable_icc": "true",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",  # noqa: S104 - Docker's own value
    "com.docker.network.bridge.name": "docker0",
    "com.docker.network.driver.mtu": "1500",
}


class Networks:
    """All networks of one host, and which container is on which."""

    def __init__(
        self, context: Context, stored: Iterable[Mapping[str, Any]], endpoints: Iterable[Any]
    ) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self.networks: dict[str, Network] = {}
        self._names: dict[str, str] = {}
        self.by_container: dict[str, dict[str, Endpoint]] = {}
        """Endpoints by container and the network's name, in the order of connecting."""
        self.plumbing: Plumbing | None = None
        """None where there is no kernel to act on (hollow mode, tests of the engine alone)."""
        self.worker: NamespaceWorker | None = None
        self.publisher: Publisher | None = None
        self.captures = Captures(context)
        self.way_out = WayOut(context)
        self.avoid: list[Subnet] = [_UNDERLAY]
        """Subnets no default pool may overlap: what the lab host already has a road to."""
        for row in stored:
            self._add(Network.from_json(row))
        for container, body in endpoints:
            endpoint = Endpoint.from_json(container, body)
            self.by_container.setdefault(container, {})[endpoint.network_name] = endpoint

    def _add(self, network: Network) -> None:
        self.networks[network.id] = network
        self._names[network.name] = network.id

    # -- opening ----------------------------------------------------

    async def open(self) -> None:
        """Make the built-in networks, and bring the lab host's links and rules into agreement."""
        await self._make_built_in()
        for endpoints in self.by_container.values():
            for endpoint in endpoints.values():
                self._take_again(endpoint)
        host = self._context.ports.host
        if host is None:
            return
        from labkit.host.engine.networking_ports import Publisher, recorded_rules
        from labkit.host.network.namespaces import NamespaceWorker
        from labkit.host.network.plumbing import Plumbing

        self.worker = NamespaceWorker()
        self.plumbing = Plumbing(host.net, self.worker)
        specs = [spec for network in self.networks.values() if (spec := bridge_spec(network))]
        live = [
            endpoint
            for endpoints in self.by_container.values()
            for endpoint in endpoints.values()
            if endpoint.live is not None
        ]
        veths = [endpoint.live.host_name for endpoint in live if endpoint.live is not None]
        rules = [rule for endpoint in live for rule in recorded_rules(endpoint)]
        await self.plumbing.open(specs, rules, veths)
        self.publisher = Publisher(self._context, self.plumbing)

    def _default_pools(self) -> Iterable[ipaddress.IPv4Network]:
        """What daemon.json says, or Docker's own."""
        return self._context.settings.subnets() or DEFAULT_POOLS

    async def _make_built_in(self) -> None:
        made = []
        for name, driver in zip(BUILT_IN, ("bridge", "host", "null"), strict=True):
            if name in self._names:
                continue
            network = Network(new_id(), name, driver, time.time_ns())
            if name == "bridge":
                network.options = dict(_DEFAULT_BRIDGE_OPTIONS)
                subnet = choose_subnet(self._subnets(), self.avoid, self._default_pools())
                network.pools = [Pool(subnet, subnet.network_address + 1)]
            self._add(network)
            made.append(self._row(network))
        if made:
            await self._context.records.write(*made)

    def _take_again(self, endpoint: Endpoint) -> None:
        """Addresses in use when the engine died are in use still, until recovery knows better."""
        network = self.networks.get(endpoint.network_id)
        if network is None or endpoint.live is None:
            return
        for address in endpoint.live.addresses:
            pool = network.pool_of(address)
            if pool is not None:
                pool.taken[address] = endpoint.container

    async def close(self) -> None:
        """Let go; links, rules and addresses stay with their containers."""
        self.captures.close()
        await self.way_out.close()
        if self.publisher is not None:
            await self.publisher.close()
        if self.plumbing is not None:
            self.plumbing.close()
        if self.worker is not None:
            await asyncio.to_thread(self.worker.close)

    @staticmethod
    def _row(network: Network) -> tuple[str, tuple[Any, ...]]:
        return (
            "INSERT OR REPLACE INTO networks VALUES (?, ?)",
            (network.id, json.dumps(network.to_json())),
        )

    def _subnets(self) -> list[Subnet]:
        return [
            pool.subnet
            for network in self.networks.values()
            if not network.config_only
            for pool in network.pools
        ]

    # -- finding ----------------------------------------------------

    def find(self, reference: str) -> Network:
        """By id, name or unambiguous id prefix, in that order. Raises NotFound."""
        if reference in self.networks:
            return self.networks[reference]
        if reference in self._names:
            return self.networks[self._names[reference]]
        found = (
            [key for key in self.networks if key.startswith(reference)]
            if is_id_prefix(reference)
            else []
        )
        if len(found) > 1:
            raise InvalidParameter(
                f"network {reference} is ambiguous ({len(found)} matches found based on ID prefix)"
            )
        if not found:
            raise NotFound(
                f"network {reference} not found", hint="`docker network ls` lists them all"
            )
        return self.networks[found[0]]

    def get(self, reference: str) -> Network | None:
        """The same, None when there is none."""
        try:
            return self.find(reference)
        except NotFound:
            return None

    def endpoints_of(self, container: str) -> dict[str, Endpoint]:
        """A container's endpoints by network name, in order."""
        return self.by_container.setdefault(container, {})

    def users_of(self, network: Network) -> list[str]:
        """Containers, running or not, that belong to a network."""
        return [
            container
            for container, endpoints in self.by_container.items()
            if any(endpoint.network_id == network.id for endpoint in endpoints.values())
        ]

    # -- create ----------------------------------------------------

    async def create(self, body: Mapping[str, Any]) -> Json:
        """POST /networks/create: `{"Id", "Warning"}`."""
        async with self._lock:
            network = network_from(body, self.find, self._names.__contains__)
            self._complete(network)
            await self._check_driver(network)
            event = self._context.events.make(
                "network", "create", network.id, self._attributes(network)
            )
            self._add(network)
            try:
                # Recorded first: what is made without a record is swept away at the next start.
                await self._context.records.write(self._row(network), EventLog.write_of(event))
                spec = bridge_spec(network)
                if spec is not None and self.plumbing is not None:
                    try:
                        await self.plumbing.add_bridge(spec)
                    except BaseException:
                        await self._forget(network)
                        raise
            except BaseException:
                self.networks.pop(network.id, None)
                self._names.pop(network.name, None)
                raise
            self._context.events.publish(event)
        warning = ""
        if network.driver == "bridge" and "encrypted" in network.options:
            warning = (
                "the option encrypted belongs to overlay networks and does nothing on a bridge"
            )
        return {"Id": network.id, "Warning": warning}

    def _complete(self, network: Network) -> None:
        """Choose what the request leaves open; Forbidden for what overlaps."""
        used = self._subnets()
        for pool in network.pools:
            for other in used:
                if other.version == pool.subnet.version and pool.subnet.overlaps(other):
                    holder = next(
                        item.name
                        for item in self.networks.values()
                        if any(mine.subnet == other for mine in item.pools)
                    )
                    raise Forbidden(
                        "invalid pool request: Pool overlaps with other one on this address space",
                        hint=f"{pool.subnet} overlaps {other} of network {holder}",
                    )
        if network.config_only:
            return
        if network.enable_ipv4 and network.pool(4) is None:
            network.pools.insert(
                0, Pool(choose_subnet(used, self.avoid, self._default_pools()), None)
            )
        if network.enable_ipv6 and network.pool(6) is None:
            seed = bytes.fromhex(self._context.engine_id[:10])
            network.pools.append(Pool(choose_subnet_v6(used, seed), None))
        for pool in network.pools:
            if pool.gateway is None:
                pool.gateway = first_gateway(pool)
        self._check_bridge(network)

    def _check_bridge(self, network: Network) -> None:
        for other in self.networks.values():
            if network.bridge and other.bridge == network.bridge and not other.config_only:
                raise Forbidden(
                    f"cannot create network {network.id} ({network.bridge}): conflicts with "
                    f"network {other.id} ({other.bridge}): networks have same bridge name"
                )

    async def _check_driver(self, network: Network) -> None:
        if network.driver not in ("macvlan", "ipvlan") or self.plumbing is None:
            return
        parent = network.options.get("parent", "")
        network.options = {**network.options, "parent": parent or self.plumbing.default_parent}
        await self.plumbing.check_lan(network.driver, network.options["parent"])

    async def _forget(self, network: Network) -> None:
        await self._context.records.write(("DELETE FROM networks WHERE id = ?", (network.id,)))

    # -- remove, prune ----------------------------------------------------

    async def remove(self, reference: str) -> None:
        """DELETE /networks/X."""
        async with self._lock:
            await self._remove(self.find(reference))

    async def _remove(self, network: Network) -> None:
        if network.is_built_in:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.endpoints:
            words = ", ".join(
                f'name:"{self._container_name(key)}" id:"{short_id(endpoint.live.endpoint_id)}"'
                for key, endpoint in network.endpoints.items()
                if endpoint.live is not None
            )
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints "
                f"({words})",
                hint=f"`docker network disconnect {network.name} CONTAINER`, or stop them first",
            )
        for other in self.networks.values():
            if other.config_from == network.name:
                raise Forbidden(f"configuration network {network.name!r} is in use")
        network.removing = True
        try:
            spec = bridge_spec(network)
            if spec is not None and self.plumbing is not None:
                await self.plumbing.remove_bridge(spec)
            event = self._context.events.make(
                "network", "destroy", network.id, self._attributes(network)
            )
            await self._context.records.write(
                ("DELETE FROM networks WHERE id = ?", (network.id,)), EventLog.write_of(event)
            )
        except BaseException:
            network.removing = False
            raise
        self.networks.pop(network.id, None)
        self._names.pop(network.name, None)
        self._context.events.publish(event)

    async def prune(self, filters: Filters | None = None) -> Json:
        """POST /networks/prune: those no running container is on."""
        wanted = dict(filters or {})
        check_names(wanted, _PRUNE_FILTERS)
        now_ns = time.time_ns()
        removed = []
        async with self._lock:
            for network in tuple(self.networks.values()):
                if (
                    network.is_built_in
                    or network.endpoints
                    or network.ingress
                    or not matches_prune_filters(wanted, network.labels, network.created_ns, now_ns)
                ):
                    continue
                try:
                    await self._remove(network)
                except (Forbidden, SystemFailure):
                    continue
                removed.append(network.name)
        await self._context.emit("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": removed or None}

    # -- showing ----------------------------------------------------

    def _container_name(self, identifier: str) -> str:
        container = self._context.containers.get(identifier)
        return container.name if container is not None else ""

    def list(self, filters: Filters | None = None) -> list[Json]:
        """GET /networks."""
        wanted = dict(filters or {})
        rows = [
            network_json(network)
            for network in self.networks.values()
            if matches(network, wanted, is_used=bool(network.endpoints))
        ]
        return sorted(rows, key=lambda row: str(row["Name"]))

    def inspect(self, reference: str) -> Json:
        """GET /networks/X."""
        network = self.find(reference)
        names = {key: self._container_name(key) for key in network.endpoints}
        return network_json(network, names)

    @staticmethod
    def _attributes(network: Network, **extra: str) -> dict[str, str]:
        return {"name": network.name, "type": network.driver, **extra}

    async def emit(self, action: str, network: Network, container: str) -> None:
        """The event of a container that joins or leaves."""
        attributes = self._attributes(network, container=container)
        await self._context.emit("network", action, network.id, attributes)

    # -- names for what is no container ----------------------------------------------------

    def set_service(self, reference: str, name: str, addresses: Iterable[Any]) -> None:
        """Let a name on a network stand for these addresses (a service's); none removes it."""
        network = self.find(reference)
        found = list(addresses)
        if found:
            network.services[name.lower()] = found
        else:
            network.services.pop(name.lower(), None)
