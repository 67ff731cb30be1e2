"""The lab's own package index, for `apk` in the alpine stand-in (design: an outside for rooms
without network). It listens inside a lab host's network namespace, where containers reach it at
their gateway; the machine itself does not see it.

    GET /apk/index          a line `NAME VERSION` for each package there is
    GET /apk/NAME.info      `ok` with version, origin and size; `unknown`; `unavailable` with why
    GET /apk/NAME.tar.gz    the files, to be unpacked at /
"""

from __future__ import annotations

import asyncio
import logging
import socket

from aiohttp import web

from labkit.base.errors import LabkitError
from labkit.host.network.namespaces import NamespaceWorker

__all__ = ["PORT", "PackageIndex", "build_packages_app"]

PORT = 3142
_LOG = logging.getLogger("labkit.packages")


async def _index(_: web.Request) -> web.Response:
    from labkit.host.image.standins.apkindex import available

    found = await asyncio.to_thread(available)
    lines = (f"{name} {version}".rstrip() for name, version in found.items())
    return web.Response(text="\n".join(lines) + "\n")


async def _info(request: web.Request) -> web.Response:
    from labkit.host.image.standins.apkindex import PACKAGES, pack

    name = request.match_info["name"]
    if name not in PACKAGES:
        return web.Response(text="unknown\n")
    try:
        packed = await asyncio.to_thread(pack, name)
    except LabkitError as error:
        _LOG.warning("apk add %s: %s", name, error)
        return web.Response(text=f"unavailable\nwhy {error.message}\n")
    lines = ("ok", f"version {packed.version}", f"origin {packed.origin}", f"size {packed.size}")
    return web.Response(text="\n".join(lines) + "\n")


async def _archive(request: web.Request) -> web.StreamResponse:
    from labkit.host.image.standins.apkindex import PACKAGES, pack

    name = request.match_info["name"]
    if name not in PACKAGES:
        raise web.HTTPNotFound
    try:
        packed = await asyncio.to_thread(pack, name)
    except LabkitError as error:
        raise web.HTTPServiceUnavailable(reason="not to be had here") from error
    return web.FileResponse(packed.file, headers={"Content-Type": "application/gzip"})


def build_packages_app() -> web.Application:
    """The application; it has no state but the catalog's folder."""
    app = web.Application()
    app.router.add_get("/apk/index", _index)
    app.router.add_get("/apk/{name}.info", _info)
    app.router.add_get("/apk/{name}.tar.gz", _archive)
    return app


def _listening() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Every bridge's gateway is an address of the lab host; the namespace is nobody else's.
        made.bind(("0.0.0.0", PORT))  # noqa: S104
        made.listen(64)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


class PackageIndex:
    """The index of one lab host."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None

    async def start(self, namespace: int) -> None:
        """Listen inside a network namespace (its descriptor). A port that something on the lab
        host has taken is a line in the log: only `apk add` misses the index."""
        worker = NamespaceWorker()
        try:
            made = await worker.run(namespace, _listening)
        except OSError as error:
            _LOG.warning("no package index at port %d: %s", PORT, error)
            return
        finally:
            worker.close()
        runner = web.AppRunner(build_packages_app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, made).start()
        self._runner = runner

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
