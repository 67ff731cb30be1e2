"""Which engine is meant: DOCKER_HOST, Docker's contexts, or the lab's own.

Docker's configuration folder (`~/.docker`, or DOCKER_CONFIG) keeps contexts under
`contexts/meta/SHA256(name)/meta.json` and their certificates under `contexts/tls/SHA256(name)`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, InvalidParameter

if TYPE_CHECKING:
    import ssl

__all__ = ["Endpoint", "config_folder", "load_config", "read_contexts", "resolve"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine's address. `certificates` is a folder with ca.pem, cert.pem and key.pem;
    without `verify` the engine's certificate is not checked."""

    address: str
    context: str = ""
    certificates: Path | None = None
    verify: bool = True

    def tls_context(self) -> ssl.SSLContext | None:
        """What TLS needs, or None for an address without TLS."""
        if self.certificates is None and not self.address.startswith("https://"):
            return None
        import ssl

        folder = self.certificates
        authority = folder / "ca.pem" if folder else None
        try:
            made = ssl.create_default_context(
                cafile=str(authority) if authority and authority.exists() else None
            )
            if folder and (folder / "cert.pem").exists():
                made.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(
                f"could not load the TLS certificates in {folder}: {error}",
                hint="DOCKER_CERT_PATH must hold ca.pem, cert.pem and key.pem",
            ) from error
        if not self.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def config_folder() -> Path:
    """The folder of Docker's client configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))


def load_config() -> dict[str, Any]:
    """config.json of Docker's client; empty where it is missing or not JSON."""
    try:
        found = json.loads((config_folder() / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_contexts() -> dict[str, dict[str, Any]]:
    """All contexts stored on this machine by name, as their metadata files have them."""
    contexts: dict[str, dict[str, Any]] = {}
    for file in sorted((config_folder() / "contexts" / "meta").glob("*/meta.json")):
        try:
            meta = json.loads(file.read_text())
            contexts[meta["Name"]] = meta
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged context is one that does not exist
    return contexts


def resolve(*, host: str | None = None, context: str | None = None) -> Endpoint | None:
    """The engine that arguments and environment name; None means the lab's own.

    Raises CommandError for a context that does not exist.
    """
    environment_host = os.environ.get("DOCKER_HOST")
    if host is None and context is None and environment_host:
        host = environment_host
    if host:
        return _from_host(host)
    name = context or os.environ.get("DOCKER_CONTEXT") or load_config().get("currentContext")
    if not name or name == "default":
        return _from_host(environment_host) if environment_host and context else None
    return _from_context(str(name))


def _from_host(host: str) -> Endpoint:
    if "://" not in host:
        host = f"tcp://{host}"
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    secure = verify or bool(os.environ.get("DOCKER_TLS"))
    if not secure or host.startswith("unix://"):
        return Endpoint(host)
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or config_folder())
    return Endpoint(host, certificates=folder, verify=verify)


def _from_context(name: str) -> Endpoint:
    key = hashlib.sha256(name.encode()).hexdigest()
    folder = config_folder() / "contexts"
    try:
        meta = json.loads((folder / "meta" / key / "meta.json").read_text())
        docker = meta["Endpoints"]["docker"]
        host = docker["Host"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CommandError(
            f'Failed to initialize: unable to resolve docker endpoint: context "{name}": '
            f"context not found: open {folder}/meta/{key}/meta.json: no such file or directory",
            hint="docker context ls shows the contexts that exist",
        ) from None
    certificates = folder / "tls" / key / "docker"
    return Endpoint(
        str(host),
        name,
        certificates if certificates.is_dir() else None,
        not docker.get("SkipTLSVerify", False),
    )
