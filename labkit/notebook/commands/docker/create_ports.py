"""`-p` and `--expose`: from `127.0.0.1:8000-8001:80-81/tcp` to port bindings."""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Sequence
from typing import Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.gotext import go_quote, parse_uint

__all__ = ["exposed", "published"]

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})


def _split_protocol(text: str) -> tuple[str, str]:
    port, slash, protocol = text.partition("/")
    if not port:
        return "", ""
    return (protocol if slash and protocol else "tcp"), port


def _port_range(text: str) -> tuple[int, int]:
    """First and last port; raises ValueError with Go's text."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    start = parse_uint(first, 16)
    end = parse_uint(last, 16) if dash else start
    if end < start:
        raise ValueError(f"invalid range specified for port: {text}")
    return start, end


def _split_address(text: str) -> tuple[str, str, str]:
    """Address, host port and container port of `[[ip:][host]:]container`."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return ":".join(parts[:-2]), parts[-2], parts[-1]


def _long_form(text: str) -> str:
    """`published=80,target=80,protocol=tcp` in the short notation."""
    if "=" not in text:
        return text
    fields: dict[str, str] = {}
    for item in next(csv.reader([text]), []):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CommandError(
                f"invalid publish opts format (should be name=value but got '{item}')"
            )
        fields[key.lower()] = value.lower()
    target = f"{fields.get('target', '')}/{fields.get('protocol', 'tcp')}"
    published_port = fields.get("published", "")
    return f"{published_port}:{target}" if published_port else target


def _parse(text: str) -> list[tuple[str, dict[str, str]]]:
    address, host_port, container = _split_address(text)
    protocol, container_port = _split_protocol(container)
    if address.startswith("["):
        address = address.strip("[]")
    if address:
        try:
            ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise CommandError(f"invalid IP address: {address}") from None
    if not container_port:
        raise CommandError(f"no port specified: {text}<empty>")
    try:
        start, end = _port_range(container_port)
    except ValueError:
        raise CommandError(f"invalid containerPort: {container_port}") from None
    host_start = host_end = 0
    if host_port:
        try:
            host_start, host_end = _port_range(host_port)
        except ValueError:
            raise CommandError(f"invalid hostPort: {host_port}") from None
        if end - start != host_end - host_start and end != start:
            raise CommandError(
                f"invalid ranges specified for container and host Ports: {container_port} "
                f"and {host_port}"
            )
    if protocol.lower() not in _PROTOCOLS:
        raise CommandError(f"invalid proto: {protocol}")
    found = []
    for offset in range(end - start + 1):
        shown = ""
        if host_port:
            shown = str(host_start + offset)
            if start == end and host_start != host_end:
                shown = f"{host_start}-{host_end}"  # the engine picks one of the range
        found.append(
            (f"{start + offset}/{protocol.lower()}", {"HostIp": address, "HostPort": shown})
        )
    return found


def published(values: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """PortBindings and the container ports of all -p; raises CommandError."""
    bindings: dict[str, Any] = {}
    for value in values:
        for port, binding in _parse(_long_form(value)):
            bindings.setdefault(port, []).append(binding)
    return bindings, list(bindings)


def exposed(values: Sequence[str], ports: Sequence[str]) -> list[str]:
    """Container ports of -p and --expose together; raises CommandError."""
    found = list(ports)
    for value in values:
        if ":" in value:
            raise CommandError(f"invalid port format for --expose: {value}")
        protocol, port = _split_protocol(value)
        try:
            start, end = _port_range(port)
        except ValueError as error:
            raise CommandError(
                f"invalid range format for --expose: {value}, error: {error}"
            ) from None
        if protocol.lower() not in _PROTOCOLS:
            raise CommandError(f"invalid proto: {go_quote(protocol)}")
        found += [f"{number}/{protocol.lower()}" for number in range(start, end + 1)]
    return list(dict.fromkeys(found))
