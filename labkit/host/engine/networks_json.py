"""Networks and endpoints in Docker's JSON (schemas Network, EndpointSettings of API v1.50)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.host.engine.filters import Filters, check_names, matches_boolean, matches_labels
from labkit.host.engine.networks_model import BUILT_IN, Endpoint, Network
from labkit.host.engine.times import format_time

__all__ = ["endpoint_json", "matches", "network_json"]

Json = dict[str, Any]

_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


def network_json(network: Network, names: Mapping[str, str] | None = None) -> Json:
    """One network. `names` (container id to name) lists its endpoints, as inspect does."""
    config = [pool.to_json() for pool in network.pools]
    found: Json = {
        "Name": network.name,
        "Id": network.id,
        "Created": format_time(network.created_ns),
        "Scope": network.scope,
        "Driver": "null" if network.name == "none" else network.driver,
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": network.ipam_options,
            "Config": config if config or not network.is_built_in else None,
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {},
        "Options": network.options,
        "Labels": network.labels,
    }
    if names is not None:
        found["Containers"] = {
            identifier: {
                "Name": names.get(identifier, ""),
                "EndpointID": endpoint.live.endpoint_id,
                "MacAddress": endpoint.live.mac,
                "IPv4Address": _with_prefix(network, endpoint, 4),
                "IPv6Address": _with_prefix(network, endpoint, 6),
            }
            for identifier, endpoint in network.endpoints.items()
            if endpoint.live is not None
        }
    return found


def _with_prefix(network: Network, endpoint: Endpoint, version: int) -> str:
    assert endpoint.live is not None
    address = endpoint.live.v4 if version == 4 else endpoint.live.v6
    pool = network.pool_of(address) if address is not None else None
    return f"{address}/{pool.subnet.prefixlen}" if pool is not None else ""


def endpoint_json(endpoint: Endpoint, network: Network | None) -> Json:
    """One value of NetworkSettings.Networks."""
    settings, live = endpoint.settings, endpoint.live
    found: Json = {
        "IPAMConfig": settings.ipam_config,
        "Links": list(settings.links) if settings.links is not None else None,
        "Aliases": list(settings.aliases) if settings.aliases is not None else None,
        "MacAddress": live.mac if live is not None else "",
        "DriverOpts": settings.driver_opts,
        "GwPriority": settings.gateway_priority,
        "NetworkID": endpoint.network_id,
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }
    if live is None or network is None:
        return found
    found["EndpointID"] = live.endpoint_id
    found["DNSNames"] = list(live.dns_names) or None
    for address, pool, keys in (
        (live.v4, network.pool(4), ("IPAddress", "IPPrefixLen", "Gateway")),
        (live.v6, network.pool(6), ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway")),
    ):
        if address is not None and pool is not None:
            own = network.pool_of(address) or pool
            found[keys[0]], found[keys[1]] = str(address), own.subnet.prefixlen
            if own.gateway is not None and not network.internal:
                found[keys[2]] = str(own.gateway)
    return found


def matches(network: Network, filters: Filters, *, is_used: bool) -> bool:
    """Whether GET /networks shows it."""
    check_names(filters, _FILTERS)
    kind = "builtin" if network.name in BUILT_IN else "custom"
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value in network.name,
        "id": lambda value: network.id.startswith(value),
        "driver": lambda value: value == ("null" if network.name == "none" else network.driver),
        "scope": lambda value: value == network.scope,
        "type": lambda value: value == kind,
    }
    if not all(
        any(tests[name](value) for value in values)
        for name, values in filters.items()
        if values and name in tests
    ):
        return False
    if filters.get("dangling"):
        is_dangling = not is_used and not network.is_built_in
        if matches_boolean(filters, "dangling", default=False) != is_dangling:
            return False
    return matches_labels(filters.get("label", ()), network.labels)
