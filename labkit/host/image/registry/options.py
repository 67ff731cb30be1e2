"""How to reach registries. Empty values mean Docker's defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

__all__ = ["RegistryOptions"]


def _words(variable: str) -> tuple[str, ...]:
    return tuple(word for word in os.environ.get(variable, "").replace(",", " ").split())


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Credentials for one registry, and the lab's lists of mirrors and insecure ones."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """An OAuth2 refresh token, as `docker login` stores for some registries."""
    registry_token: str = ""
    """A bearer token to use as it is."""
    insecure: tuple[str, ...] = field(default_factory=lambda: _words("LABKIT_INSECURE_REGISTRIES"))
    """host, host:port or CIDR that may speak plain http; 127.0.0.0/8 and ::1 always may."""
    mirrors: tuple[str, ...] = field(default_factory=lambda: _words("LABKIT_REGISTRY_MIRRORS"))
    """Base URLs that are asked before docker.io."""
    connect_seconds: float = 10.0
    """For a connection; official names without a mirror get two seconds in all."""
    parallel: int = 3
    """Layers in flight at once (Docker's max-concurrent-downloads)."""
    attempts: int = 5
    """Tries for each blob; the pause between them doubles from `pause_seconds`."""
    pause_seconds: float = 0.5
