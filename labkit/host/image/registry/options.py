"""How to reach registries. Empty values mean Docker's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labkit.host.image.registry.settings import certificate_folders, read_settings

__all__ = ["RegistryOptions"]


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Credentials for one registry, and the lab's lists of mirrors and insecure ones."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """An OAuth2 refresh token, as `docker login` stores for some registries."""
    registry_token: str = ""
    """A bearer token to use as it is."""
    insecure: tuple[str, ...] = field(default_factory=lambda: read_settings().insecure)
    """host, host:port or CIDR that may speak plain http; 127.0.0.0/8 and ::1 always may."""
    mirrors: tuple[str, ...] = field(default_factory=lambda: read_settings().mirrors)
    """Base URLs that are asked before docker.io."""
    certificates: tuple[Path, ...] = field(default_factory=certificate_folders)
    """Folders in which `HOST:PORT/*.crt` names further authorities."""
    connect_seconds: float = 10.0
    """For a connection; official names without a mirror get two seconds in all."""
    parallel: int = field(default_factory=lambda: read_settings().downloads)
    """Layers in flight at once."""
    parallel_uploads: int = field(default_factory=lambda: read_settings().uploads)
    attempts: int = field(default_factory=lambda: read_settings().attempts)
    """Tries for each blob; the pause between them doubles from `pause_seconds`."""
    pause_seconds: float = 0.5

    @property
    def is_anonymous(self) -> bool:
        """Whether there is nothing to log in with."""
        return not (self.username or self.identity_token or self.registry_token)
