"""What this engine calls itself on the wire. Imported before the daemon listens: keep it bare."""

from __future__ import annotations

__all__ = [
    "API_VERSION",
    "API_VERSION_MIN",
    "ENGINE_VERSION",
    "PING_HEADERS",
    "SERVER_HEADER",
    "VERSION_HEADERS",
]

API_VERSION = "1.50"
"""The newest Docker Engine API spoken here, and what `Api-Version` announces."""

API_VERSION_MIN = "1.24"

ENGINE_VERSION = "28.2.2+labkit"
"""Docker's release that behaviour is held to; the suffix says that this is not that program."""

SERVER_HEADER = f"Docker/{ENGINE_VERSION} (linux)"

VERSION_HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": SERVER_HEADER,
}
"""On every answer of the Docker API."""

PING_HEADERS = {
    **VERSION_HEADERS,
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
"""On the answer to `/_ping`; builder 1 is the classic builder, which needs no BuildKit."""
