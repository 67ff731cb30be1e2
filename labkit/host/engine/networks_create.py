"""What POST /networks/create may ask for: checked, in Docker's words, before anything is made."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from labkit.base.errors import Conflict, Forbidden, InvalidParameter, NotFound, Unsupported
from labkit.base.ids import new_id
from labkit.host.engine.networks_model import BUILT_IN, Network
from labkit.host.network.ipam import Pool, parse_pools

__all__ = ["DRIVERS", "network_from"]

DRIVERS = ("bridge", "host", "ipvlan", "macvlan", "null")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_INTERFACE = re.compile(r"[a-zA-Z0-9_.:-]{1,15}\Z")
_BOOLEANS = (
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.default_bridge",
)


def _texts(body: Mapping[str, Any], field: str) -> dict[str, str]:
    value = body.get(field) or {}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise InvalidParameter(f"invalid JSON: {field} must be an object of strings")
    return dict(value)


def _flag(body: Mapping[str, Any], field: str, *, default: bool = False) -> bool:
    value = body.get(field)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidParameter(f"invalid JSON: {field} must be true or false")
    return value


def _name(body: Mapping[str, Any]) -> str:
    name = body.get("Name") or ""
    if not isinstance(name, str) or not name.strip():
        raise InvalidParameter("network name cannot be empty")
    if not _NAME.match(name):
        raise InvalidParameter(
            f"invalid network name: {name}",
            hint="begin with a letter or digit; letters, digits, _ . and - may follow",
        )
    if name in (*BUILT_IN, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    return name


def _driver(body: Mapping[str, Any]) -> str:
    driver = body.get("Driver") or "bridge"
    if not isinstance(driver, str):
        raise InvalidParameter("invalid JSON: Driver must be a string")
    if driver in ("host", "null", "none"):
        raise Forbidden(f'only one instance of "{"null" if driver == "none" else driver}" '
                        "network is allowed")  # fmt: skip
    if driver == "overlay":
        raise Forbidden(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
            "to connect this node to swarm and try again."
        )
    if driver not in DRIVERS:
        raise NotFound(f'plugin "{driver}" not found', hint="bridge, macvlan and ipvlan are here")
    return driver


def _check_options(driver: str, options: Mapping[str, str]) -> None:
    for option in _BOOLEANS:
        text = options.get(option, "true").strip().lower()
        if driver == "bridge" and text not in ("0", "1", "t", "f", "true", "false", ""):
            raise InvalidParameter(
                f'strconv.ParseBool: parsing "{options[option]}": invalid syntax'
            )
    mtu = options.get("com.docker.network.driver.mtu", "")
    if mtu and not mtu.isdecimal():
        raise InvalidParameter(f'strconv.Atoi: parsing "{mtu}": invalid syntax')
    if mtu and int(mtu) and not 68 <= int(mtu) <= 65535:
        raise InvalidParameter(f"invalid MTU {mtu}", hint="68 to 65535; 1500 is the usual one")
    name = options.get("com.docker.network.bridge.name", "")
    if name and (not _INTERFACE.match(name) or name in (".", "..")):
        raise InvalidParameter(
            f"invalid bridge name {name}: interface names have at most 15 letters"
        )
    binding = options.get("com.docker.network.bridge.host_binding_ipv4", "")
    if binding:
        import ipaddress

        try:
            ipaddress.IPv4Address(binding)
        except ValueError:
            raise InvalidParameter(
                f"invalid value for host_binding_ipv4: {binding} is no IPv4 address"
            ) from None
    if driver in ("macvlan", "ipvlan"):
        mode = options.get(f"{driver}_mode", "")
        known = (
            ("bridge", "private", "vepa", "passthru") if driver == "macvlan" else
            ("l2", "l3", "l3s")
        )  # fmt: skip
        if mode and mode not in known:
            raise InvalidParameter(f"requested {driver} mode '{mode}' is not valid")


def network_from(
    body: Mapping[str, Any], find_config: Any = None, name_taken: Any = None
) -> Network:
    """The network a request asks for, with the pools it names; the caller adds what it leaves open.

    `find_config(name)` gives a config-only network.
    """
    name = _name(body)
    if name_taken is not None and name_taken(name):
        raise Conflict(f"network with name {name} already exists")
    driver = _driver(body)
    options, labels = _texts(body, "Options"), _texts(body, "Labels")
    ipam = body.get("IPAM") or {}
    if not isinstance(ipam, Mapping):
        raise InvalidParameter("invalid JSON: IPAM must be an object")
    config = ipam.get("Config") or []
    if not isinstance(config, list) or not all(isinstance(row, Mapping) for row in config):
        raise InvalidParameter("invalid JSON: IPAM.Config must be a list of objects")
    if ipam.get("Driver") not in (None, "", "default", "null"):
        raise NotFound(f'could not find ipam driver "{ipam["Driver"]}"')
    if body.get("Scope") not in (None, "", "local"):
        raise Unsupported("networks of scope swarm need a swarm: `docker swarm init` first")
    if _flag(body, "Ingress"):
        raise Forbidden("Node is not part of a swarm: an ingress network needs one")
    pools: list[Pool] = parse_pools(config)
    source = body.get("ConfigFrom") or {}
    config_from = str(source.get("Network") or "") if isinstance(source, Mapping) else ""
    is_v6 = any(pool.subnet.version == 6 for pool in pools)
    network = Network(
        id=new_id(),
        name=name,
        driver=driver,
        created_ns=time.time_ns(),
        pools=pools,
        options=options,
        labels=labels,
        ipam_driver=str(ipam.get("Driver") or "default"),
        ipam_options=_texts(ipam, "Options") if ipam.get("Options") is not None else {},
        internal=_flag(body, "Internal"),
        attachable=_flag(body, "Attachable"),
        enable_ipv4=_flag(body, "EnableIPv4", default=True),
        enable_ipv6=_flag(body, "EnableIPv6", default=is_v6),
        config_only=_flag(body, "ConfigOnly"),
        config_from=config_from,
    )
    if config_from:
        _take_configuration(network, config_from, find_config)
    if not network.enable_ipv4 and not network.enable_ipv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    _check_options(driver, network.options)
    return network


def _take_configuration(network: Network, name: str, find_config: Any) -> None:
    if network.options or network.pools:
        raise Forbidden("user specified configurations are not supported if the network depends "
                        "on a configuration network")  # fmt: skip
    source = find_config(name)
    if not source.config_only:
        raise Forbidden(f"configuration network {name} is not a configuration-only network")
    network.options = dict(source.options)
    network.internal, network.enable_ipv6 = source.internal, source.enable_ipv6
    network.pools = [
        Pool(pool.subnet, pool.gateway, pool.ip_range, pool.auxiliary, is_user_chosen=True)
        for pool in source.pools
    ]
