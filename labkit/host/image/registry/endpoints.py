"""Which URLs a registry's name stands for, and whether plain http is acceptable there."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.host.image.reference import DEFAULT_DOMAIN
from labkit.host.image.registry.options import RegistryOptions

__all__ = ["Endpoint", "endpoints", "is_insecure", "is_loopback"]

_HUB = "https://registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One base URL to try. `verify` is whether its certificate must be good."""

    url: str
    verify: bool = True
    is_mirror: bool = False
    is_local: bool = False
    """On this machine: a proxy is never asked for it."""


def _host(domain: str) -> str:
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.rpartition(":")[0] if domain.count(":") == 1 else domain


def is_loopback(domain: str) -> bool:
    """Whether the name means this machine: localhost, 127.0.0.0/8 or ::1."""
    host = _host(domain)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_insecure(domain: str, listed: Sequence[str]) -> bool:
    """Whether plain http and bad certificates are accepted for this registry."""
    if is_loopback(domain):
        return True
    host = _host(domain)
    for word in listed:
        if word in (domain, host):
            return True
        try:
            if "/" in word and ipaddress.ip_address(host) in ipaddress.ip_network(word, False):
                return True
        except ValueError:
            continue
    return False


def endpoints(domain: str, options: RegistryOptions, *, is_push: bool = False) -> list[Endpoint]:
    """The URLs to try for a registry, best first. Mirrors are read from, never written to."""
    if domain == DEFAULT_DOMAIN:
        mirrors = [
            Endpoint(
                url.rstrip("/"),
                verify=not is_insecure(url.partition("://")[2].split("/")[0], options.insecure),
                is_mirror=True,
                is_local=is_loopback(url.partition("://")[2].split("/")[0]),
            )
            for url in (() if is_push else options.mirrors)
        ]
        return [*mirrors, Endpoint(_HUB)]
    local = is_loopback(domain)
    if is_insecure(domain, options.insecure):
        return [
            Endpoint(f"https://{domain}", verify=False, is_local=local),
            Endpoint(f"http://{domain}", verify=False, is_local=local),
        ]
    return [Endpoint(f"https://{domain}")]
