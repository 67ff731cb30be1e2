"""labkit's own API on labkit.sock: what only this lab can tell, for views, checks and the CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.daemon.identity import SERVER_HEADER
from labkit.daemon.lab_api import (
    boxes,
    captures,
    cluster,
    confinement,
    forwards,
    host_exec,
    images,
    layers,
    mounts,
    raft,
    status,
    views,
)
from labkit.daemon.routing import build_app

if TYPE_CHECKING:
    from aiohttp import web

    from labkit.daemon.lab import Lab

__all__ = ["build_lab_app"]


def build_lab_app(lab: Lab) -> web.Application:
    """The application to serve on labkit.sock."""
    routes = [
        route
        for module in (
            status,
            views,
            captures,
            confinement,
            mounts,
            forwards,
            boxes,
            host_exec,
            images,
            layers,
            raft,
            cluster,
        )
        for route in module.ROUTES
    ]
    return build_app(lab, routes, versioned=False, headers={"Server": SERVER_HEADER})
