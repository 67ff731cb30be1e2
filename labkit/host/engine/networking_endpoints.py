"""A container's places on networks: what is asked for, what is given, which links that takes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Forbidden, InvalidParameter, NotFound
from labkit.base.ids import new_id
from labkit.host.engine.hostconfig import EndpointConfig
from labkit.host.engine.networking_names import dns_names, forget_names
from labkit.host.engine.networks_model import Endpoint, Live, Network
from labkit.host.network.ipam import mac_for

if TYPE_CHECKING:
    from labkit.host.engine.container import Container, Definition
    from labkit.host.engine.context import Context
    from labkit.host.engine.records import Write
    from labkit.host.network.netlink import Address
    from labkit.host.network.plumbing import Attachment

__all__ = [
    "allocate",
    "attachment",
    "check_endpoints",
    "check_settings",
    "drop",
    "endpoint_rows",
    "endpoints_for",
    "gateways",
    "main_endpoint",
    "network_of",
    "require_networks",
    "rows_of",
]


def endpoints_for(context: Context, definition: Definition) -> dict[str, Endpoint]:
    """The endpoints a new container asks for, its main network first."""
    mode = definition.host.network_mode
    if mode.startswith("container:"):
        return {}
    main = "bridge" if mode in ("", "default") else mode
    asked: dict[str, EndpointConfig] = {}
    for key, settings in (definition.networking.endpoints or {}).items():
        network = context.networks.get(main if key == "default" else key)
        name = network.name if network is not None else (main if key == "default" else key)
        asked[name] = settings or EndpointConfig()
    found = context.networks.get(main)
    first = found.name if found is not None else main
    ordered = {first: asked.pop(first, EndpointConfig()), **asked}
    if len(ordered) > 1 and not {"host", "none"}.isdisjoint(ordered):
        raise InvalidParameter(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    return {
        name: Endpoint(
            definition.id,
            name,
            network.id if (network := context.networks.get(name)) is not None else "",
            settings,
        )
        for name, settings in ordered.items()
    }


def check_endpoints(context: Context, endpoints: Mapping[str, Endpoint]) -> None:
    """Refuse what a network cannot give. Networks that do not exist are the start's business."""
    for endpoint in endpoints.values():
        network = context.networks.get(endpoint.network_id or endpoint.network_name)
        if network is not None:
            check_settings(network, endpoint.settings)


def wanted_address(settings: EndpointConfig, version: int) -> Address | None:
    text = (settings.ipam_config or {}).get(f"IPv{version}Address")
    if not text:
        return None
    try:
        found = ipaddress.ip_address(str(text))
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise InvalidParameter(f"invalid endpoint settings:\ninvalid IPv{version} address: {text}")
    return found


def check_settings(network: Network, settings: EndpointConfig) -> None:
    """Docker's rules for addresses and aliases asked for. Raises InvalidParameter."""
    wanted = [
        found for version in (4, 6) if (found := wanted_address(settings, version)) is not None
    ]
    head = f"invalid config for network {network.name}: invalid endpoint settings:\n"
    if network.is_built_in:
        if wanted:
            raise InvalidParameter(
                f"{head}user specified IP address is supported on user defined networks only"
            )
        if settings.aliases:
            raise InvalidParameter(
                f"{head}network-scoped aliases are only supported for user-defined networks"
            )
    for address in wanted:
        pools = [pool for pool in network.pools if pool.subnet.version == address.version]
        if not any(pool.is_user_chosen for pool in pools):
            raise InvalidParameter(
                f"{head}user specified IP address is supported only when connecting to networks "
                "with user configured subnets",
                hint=f"docker network create --subnet=… {network.name}",
            )
        if network.pool_of(address) is None:
            raise InvalidParameter(f"{head}no configured subnet contains IP address {address}")
    if settings.mac_address:
        _check_mac(settings.mac_address)


def _check_mac(text: str) -> None:
    parts = text.replace("-", ":").split(":")
    is_valid = len(parts) == 6 and all(
        len(part) == 2 and all(c in "0123456789abcdefABCDEF" for c in part) for part in parts
    )
    if not is_valid:
        raise InvalidParameter(f"invalid MAC address: {text}")


def endpoint_rows(container: str, endpoints: Mapping[str, Endpoint]) -> list[Write]:
    """The records of these endpoints."""
    return [
        (
            "INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?)",
            (container, name, json.dumps(endpoint.to_json())),
        )
        for name, endpoint in endpoints.items()
    ]


def rows_of(context: Context, container: Container) -> list[Write]:
    """The records of a container's endpoints; a build's step has no record, and lives for once."""
    if context.containers.get(container.id) is not container:
        return []
    return endpoint_rows(container.id, context.networks.endpoints_of(container.id))


def network_of(context: Context, endpoint: Endpoint) -> Network:
    networks = context.networks
    if endpoint.network_id:
        network = networks.networks.get(endpoint.network_id)
    else:
        network = networks.get(endpoint.network_name)
    if network is None:
        shown = endpoint.network_id or endpoint.network_name
        raise NotFound(
            f"failed to set up container networking: network {shown} not found",
            hint=f"`docker network create {endpoint.network_name}`, and make the container again",
        )
    if network.config_only:
        raise Forbidden(f"cannot attach to configuration-only network {network.name}")
    endpoint.network_id = network.id
    return network


def require_networks(context: Context, container: Container) -> None:
    """NotFound unless every network the container is to join exists."""
    for endpoint in context.networks.endpoints_of(container.id).values():
        network_of(context, endpoint)


def allocate(container: Container, network: Network, endpoint: Endpoint, number: int) -> Live:
    """Addresses and names for one endpoint; nothing is taken when anything is refused."""
    from labkit.host.network.plumbing import new_host_name

    taken: list[Address] = []
    chosen: dict[int, Any] = {4: None, 6: None}
    try:
        for version, enabled in ((4, network.enable_ipv4), (6, network.enable_ipv6)):
            pool = network.pool(version)
            if pool is None or not enabled:
                continue
            wanted = wanted_address(endpoint.settings, version)
            if wanted is not None:
                pool = network.pool_of(wanted) or pool
            chosen[version] = pool.take(container.id, wanted)
            taken.append(chosen[version])
    except BaseException:
        for address in taken:
            give_back(network, address, container.id)
        raise
    base = chosen[4] or chosen[6]
    mac = endpoint.settings.mac_address.replace("-", ":").lower()
    if not mac and base is not None:
        mac = mac_for(base)
    live = Live(new_id(), chosen[4], chosen[6], mac, f"eth{number}", new_host_name())
    if network.has_names:
        live.dns_names = dns_names(container, endpoint)
    return live


def give_back(network: Network, address: Address, owner: str) -> None:
    pool = network.pool_of(address)
    if pool is not None:
        pool.release(address, owner)


def attachment(network: Network, live: Live, settings: EndpointConfig) -> Attachment:
    from labkit.host.network.plumbing import Attachment

    prefixes = [
        f"{address}/{pool.subnet.prefixlen}"
        for address in live.addresses
        if (pool := network.pool_of(address)) is not None
    ]
    name = "com.docker.network.endpoint.sysctls"
    sysctls = tuple(
        (key.replace(".", "/").replace("IFNAME", live.interface), value)
        for key, _, value in (
            word.partition("=") for word in (settings.driver_opts or {}).get(name, "").split(",")
        )
        if key and value
    )
    kind = "veth" if network.driver == "bridge" else network.driver
    return Attachment(
        live.interface,
        tuple(prefixes),
        live.mac,
        host_name=live.host_name,
        bridge=network.bridge,
        mtu=network.mtu,
        isolated=not network.option("com.docker.network.bridge.enable_icc", default=True),
        has_ipv6=live.v6 is not None,
        parent=network.options.get("parent", ""),
        kind=kind,
        mode=network.options.get(f"{kind}_mode", ""),
        sysctls=sysctls,
    )


def main_endpoint(context: Context, container: str) -> tuple[Network, Endpoint] | None:
    """The endpoint that gives the default route: highest priority, then both families, by name."""
    found = [
        (network, endpoint)
        for endpoint in context.networks.endpoints_of(container).values()
        if endpoint.live is not None
        and (network := context.networks.networks.get(endpoint.network_id)) is not None
        and not network.internal
        and any(pool.gateway is not None for pool in network.pools)
    ]
    if not found:
        return None
    return min(
        found,
        key=lambda pair: (
            -pair[1].settings.gateway_priority,
            not (pair[1].live and pair[1].live.v4 and pair[1].live.v6),
            pair[0].name,
        ),
    )


def gateways(context: Context, container: str) -> list[Address]:
    main = main_endpoint(context, container)
    if main is None:
        return []
    network, endpoint = main
    assert endpoint.live is not None
    return [
        pool.gateway
        for address in endpoint.live.addresses
        if (pool := network.pool_of(address)) is not None and pool.gateway is not None
    ]


def drop(context: Context, endpoint: Endpoint) -> Live | None:
    """Forget what an endpoint has; its addresses are free again."""
    network = context.networks.networks.get(endpoint.network_id)
    live, endpoint.ports = endpoint.live, ()
    if network is not None:
        forget_names(network, endpoint)
        network.endpoints.pop(endpoint.container, None)
        if live is not None:
            for address in live.addresses:
                give_back(network, address, endpoint.container)
    endpoint.live = None
    return live
