"""Jupyter's server with terminals for `docker run -it` (design.md 13).

A wheel of labkit enables this extension by a file in etc/jupyter/jupyter_server_config.d, so the
server needs no configuration. Everything else is imported when Jupyter loads it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ROUTE"]

# Where the extension answers, below the server's base address.
ROUTE = "labkit"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """What Jupyter's server asks an extension package for."""
    return [{"module": "labkit.notebook.jupyter"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """Add our addresses to a server that starts."""
    from labkit.notebook.jupyter.handlers import add_handlers

    add_handlers(serverapp)
