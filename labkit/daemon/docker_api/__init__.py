"""The Docker Engine API over one host's engine: one module of routes per subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.daemon.docker_api import (
    archives,
    builds,
    commits,
    container_files,
    container_io,
    containers,
    execs,
    images,
    networks,
    system,
    volumes,
)
from labkit.daemon.identity import VERSION_HEADERS
from labkit.daemon.routing import build_app

if TYPE_CHECKING:
    from aiohttp import web

    from labkit.host.engine.engine import Engine

__all__ = ["build_docker_app"]

_MODULES = (
    system,
    containers,
    container_io,
    container_files,
    execs,
    archives,
    commits,
    builds,
    images,
    networks,
    volumes,
)


def build_docker_app(engine: Engine) -> web.Application:
    """The application to serve on one host's docker.sock."""
    routes = [route for module in _MODULES for route in module.ROUTES]
    return build_app(engine, routes, versioned=True, headers=VERSION_HEADERS)
