"""Whether official images come from a registry or are stand-ins, and why.

The answer is what really happened at the last attempt, not what a configuration promises: a
default route is no registry. Only the absence of any route is believed without asking.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import LabkitError, Unavailable

__all__ = ["SourceState", "has_route", "probe_registry", "remember", "state"]

_REMEMBER_SECONDS = 60.0
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class SourceState:
    """`source` is `registry`, `stand-in`, or `unknown` while nobody asked; `why` is a sentence."""

    source: str
    why: str


_NOT_ASKED = SourceState("unknown", "docker.io has not been asked yet")
_last = _NOT_ASKED
_asked_at = 0.0


def has_route() -> bool:
    """Whether this machine has a default route or a proxy to the world outside."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    try:
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            fields = line.split()
            if len(fields) > 7 and fields[1] == fields[7] == "00000000":
                return True
        for line in Path("/proc/net/ipv6_route").read_text().splitlines():
            fields = line.split()
            # A default route by a real device; `lo` carries the kernel's own "unreachable" one.
            if fields[:2] == ["0" * 32, "00"] and fields[-1] != "lo":
                return True
    except OSError:
        return True  # unknown is worth a try
    return False


def remember(source: str, why: str) -> None:
    """Keep the outcome of an attempt for the next minute."""
    global _last, _asked_at
    _last, _asked_at = SourceState(source, why), time.monotonic()


def state(offline: bool | None = None) -> SourceState:
    """What a pull of an official image would do now, as far as is known without asking."""
    if offline is None:
        offline = os.environ.get("LABKIT_OFFLINE") == "1"
    if offline:
        return SourceState("stand-in", "LABKIT_OFFLINE is set")
    if not has_route() and not os.environ.get("LABKIT_REGISTRY_MIRRORS"):
        return SourceState("stand-in", "this machine has no route to docker.io")
    if time.monotonic() - _asked_at > _REMEMBER_SECONDS and _last.source == "stand-in":
        return _NOT_ASKED
    return _last


async def probe_registry() -> SourceState:
    """Find out: asks docker.io (at most two seconds) unless the answer is known."""
    known = state()
    if known.source != "unknown":
        return known
    from labkit.host.image.reference import parse
    from labkit.host.image.registry.client import RegistryClient
    from labkit.host.image.registry.options import RegistryOptions

    try:
        async with RegistryClient(parse("busybox"), RegistryOptions()):
            remember("registry", "docker.io answers")
    except Unavailable:
        remember("stand-in", "docker.io cannot be reached")
    except LabkitError as error:
        remember("stand-in", f"docker.io refuses: {error.message}")
    return _last
