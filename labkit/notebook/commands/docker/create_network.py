"""The networks a new container joins: `--network`, `--network-alias`, `--ip`, `--link` …"""

from __future__ import annotations

from typing import Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.flags import Flags

__all__ = ["endpoints"]

# Modes that are not networks of a user's own.
_PREDEFINED = frozenset({"default", "bridge", "host", "none"})


def endpoints(flags: Flags) -> tuple[str, dict[str, Any]]:
    """NetworkMode and NetworkingConfig; raises CommandError with the client's sentence."""
    attachments = [dict(item) for item in flags["network"]] or [{"Target": "default"}]
    configurations: dict[str, Any] = {}
    seen: set[str] = set()
    kinds: set[bool] = set()
    for number, attachment in enumerate(attachments):
        name = attachment["Target"]
        if not name.strip():
            raise CommandError("no name set for network")
        is_user_defined = name not in _PREDEFINED and not name.startswith("container:")
        kinds.add(is_user_defined)
        if number == 0:
            _merge_flags(flags, attachment, is_user_defined)
        if attachment.get("Aliases") and not is_user_defined:
            raise CommandError(
                "network-scoped aliases are only supported for user-defined networks"
            )
        if name in seen:
            raise CommandError(f'network "{name}" is specified multiple times')
        seen.add(name)
        joins_none = name in ("host", "none") or name.startswith("container:")
        has_options = any(value for key, value in attachment.items() if key != "Target")
        if number or not joins_none or has_options:
            configurations[name] = _endpoint(attachment)
    if len(kinds) > 1:
        raise CommandError(
            "conflicting options: cannot attach both user-defined and "
            "non-user-defined network-modes"
        )
    return attachments[0]["Target"], {"EndpointsConfig": configurations}


def _merge_flags(flags: Flags, attachment: dict[str, Any], is_user_defined: bool) -> None:
    """The single-network flags belong to the first network."""
    pairs = (("network-alias", "Aliases"), ("ip", "ip"), ("ip6", "ip6"))
    for flag, key in (*pairs, ("mac-address", "mac-address"), ("link-local-ip", "link-local-ip")):
        if not flags[flag]:
            continue
        if attachment.get(key):
            shown = "network-alias" if flag == "network-alias" else flag
            raise CommandError(
                f"conflicting options: cannot specify both --{shown} and per-network "
                f"{_per_network(shown)}"
            )
        attachment[key] = flags[flag]
    if flags["link"] and is_user_defined:
        attachment["Links"] = flags["link"]


def _per_network(flag: str) -> str:
    return {
        "network-alias": "alias",
        "ip": "IPv4 address",
        "ip6": "IPv6 address",
        "mac-address": "MAC address",
        "link-local-ip": "link-local IP addresses",
    }[flag]


def _endpoint(attachment: dict[str, Any]) -> dict[str, Any]:
    addresses = {
        "IPv4Address": attachment.get("ip"),
        "IPv6Address": attachment.get("ip6"),
        "LinkLocalIPs": attachment.get("link-local-ip"),
    }
    addresses = {key: value for key, value in addresses.items() if value}
    return {
        "IPAMConfig": addresses or None,
        "Links": attachment.get("Links") or None,
        "Aliases": attachment.get("Aliases") or None,
        "MacAddress": attachment.get("mac-address") or "",
        "DriverOpts": attachment.get("DriverOpts") or None,
        "GwPriority": attachment.get("gw-priority", 0),
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
