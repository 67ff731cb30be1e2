"""`network create`, `connect`, `disconnect`, `rm`."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.commands.docker.create_options import mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labkit.notebook.commands.tree import Call

__all__ = ["connect", "create", "disconnect", "remove"]

_EMPTY_ENDPOINT: dict[str, Any] = {
    "MacAddress": "",
    "NetworkID": "",
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "DNSNames": None,
}


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise CommandError(f"invalid CIDR address: {text}") from None


def _owner(subnets: Sequence[str], text: str, what: str) -> str:
    """The subnet that an address or range lies in."""
    try:
        first = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise CommandError(f"invalid {what}: {text}") from None
    for subnet in subnets:
        if first in _network(subnet):
            return subnet
    raise CommandError(f"no matching subnet for {what} {text}")


def _ipam(call: Call) -> list[dict[str, Any]]:
    flags = call.flags
    subnets = flags["subnet"]
    if len(subnets) < len(flags["ip-range"]) or len(subnets) < len(flags["gateway"]):
        raise CommandError("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    for text in subnets:
        for other in pools:
            mine, theirs = _network(text), _network(other)
            if mine.version == theirs.version and mine.overlaps(theirs):
                raise CommandError("multiple overlapping subnet configuration is not supported")
        pools[text] = {"Subnet": text}
    for text in flags["ip-range"]:
        pools[_owner(subnets, text, "ip-range")]["IPRange"] = text
    for text in flags["gateway"]:
        pools[_owner(subnets, text, "gateway")]["Gateway"] = text
    for name, text in mapping(flags["aux-address"]).items():
        pool = pools[_owner(subnets, text, "aux-address")]
        pool.setdefault("AuxiliaryAddresses", {})[name] = text
    return list(pools.values())


def create(call: Call) -> None:
    """Create a network and print its id."""
    flags = call.flags
    body: dict[str, Any] = {
        "Name": call.args[0],
        "Driver": flags["driver"],
        "Scope": flags["scope"],
        "IPAM": {
            "Driver": flags["ipam-driver"],
            "Options": mapping(flags["ipam-opt"]),
            "Config": _ipam(call),
        },
        "Internal": flags["internal"],
        "Attachable": flags["attachable"],
        "Ingress": flags["ingress"],
        "ConfigOnly": flags["config-only"],
        "ConfigFrom": {"Network": flags["config-from"]} if flags["config-from"] else None,
        "Options": mapping(flags["opt"]),
        "Labels": mapping(flags["label"]),
    }
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flags.given(flag):
            body[field] = flags[flag]
    hint = None
    if flags["driver"] == "bridge" and "encrypted" in mapping(flags["opt"]):
        hint = "encrypted is an option of overlay networks: this makes a plain bridge"
    answer = call.client.request("POST", "/networks/create", json=body).json()
    call.surface.out(f"{answer['Id']}\n")
    give_hint = getattr(call.surface, "hint", None)
    if hint and give_hint is not None:
        give_hint(hint)


def connect(call: Call) -> None:
    """Connect a container to a network."""
    flags = call.flags
    addresses = {
        "IPv4Address": flags["ip"],
        "IPv6Address": flags["ip6"],
        "LinkLocalIPs": flags["link-local-ip"],
    }
    endpoint = {
        **_EMPTY_ENDPOINT,
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
        "Links": flags["link"] or None,
        "Aliases": flags["alias"],
        "DriverOpts": mapping(flags["driver-opt"]),
        "GwPriority": flags["gw-priority"],
    }
    call.client.request(
        "POST",
        f"/networks/{call.args[0]}/connect",
        json={"Container": call.args[1], "EndpointConfig": endpoint},
    )


def disconnect(call: Call) -> None:
    """Disconnect a container from a network."""
    call.client.request(
        "POST",
        f"/networks/{call.args[0]}/disconnect",
        json={"Container": call.args[1], "Force": call.flags["force"]},
    )


def remove(call: Call) -> int:
    """Remove networks."""
    failed = 0
    for name in call.args:
        try:
            call.client.request("DELETE", f"/networks/{name}")
        except LabkitError as error:
            if call.flags["force"] and getattr(error, "status", 0) == 404:
                continue
            call.surface.err(getattr(error, "sentence", error.message) + "\n")
            failed = 1
            continue
        call.surface.out(f"{name}\n")
    if failed:
        raise CommandError("exit status 1")
    return failed
