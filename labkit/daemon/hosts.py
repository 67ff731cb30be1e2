"""Opening one Docker host: its images, its way to start processes, its engine.

The lab's default host and every simulated node are opened here, each on namespaces of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.paths import LabPaths
from labkit.daemon.hollow import HollowRuntime
from labkit.daemon.packages_api import PackageIndex
from labkit.host.engine.engine import Engine
from labkit.host.engine.ports import Ports
from labkit.host.isolation.cgroups import CgroupDriver

if TYPE_CHECKING:
    from labkit.host.image.store import ImageStore
    from labkit.host.isolation.probe import Probe
    from labkit.host.isolation.runtime import Runtime
    from labkit.host.isolation.spec import HostNamespaces

__all__ = ["Host", "open_host", "remove_folder"]

_DEFAULT = "default"


@dataclass(slots=True)
class Host:
    """One open host. `namespaces` is None in hollow mode."""

    node: str
    namespaces: HostNamespaces | None
    engine: Engine
    runtime: Runtime | HollowRuntime
    images: ImageStore
    groups: CgroupDriver
    packages: PackageIndex

    async def close(self) -> None:
        """Let go; containers keep running."""
        await self.packages.close()
        await self.engine.close()
        self.runtime.close()
        await asyncio.to_thread(self.images.close)


async def open_host(
    paths: LabPaths,
    probe: Probe,
    namespaces: HostNamespaces | None,
    *,
    node: str = _DEFAULT,
    groups: CgroupDriver | None = None,
) -> Host:
    """Open the host `node` and take up the containers that an earlier daemon started on it.

    Without `groups` it gets control groups of its own: an engine discards those it does not know.
    """
    from labkit.host.image.snapshots import Snapshotter
    from labkit.host.image.store import ImageStore
    from labkit.host.isolation.foreign import Runtimes
    from labkit.host.isolation.runtime import Runtime

    data = paths.host_data(node)
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    images = await asyncio.to_thread(ImageStore, data, shared=_shared_images())
    instance = paths.instance if node == _DEFAULT else f"{paths.instance}.{node}"
    if groups is None:
        groups = CgroupDriver(instance, probe)
    runtime: Runtime | HollowRuntime = HollowRuntime(groups)
    runtimes: Runtimes | None = None
    if namespaces is not None:
        runtime = Runtime(host=namespaces, instance=instance, probe=probe, cgroups=groups)
        runtimes = Runtimes(runtime)
    ports = Ports(
        runtime=runtime,
        runtimes=runtimes,
        images=images,
        snapshots=Snapshotter(images, overlay=probe.overlay),
        host=namespaces,
        probe=probe,
        publish_on=_publish_on() if node == _DEFAULT else (),
    )
    engine = await Engine.open(paths, ports, node=node)
    if node == _DEFAULT:
        await engine.context.networks.way_out.open(
            instance=paths.instance if probe.mode == "rootful" else "",
            offline=bool(os.environ.get("LABKIT_OFFLINE")),
        )
    packages = PackageIndex()
    if namespaces is not None:
        await packages.start(namespaces.net)
    return Host(node, namespaces, engine, runtime, images, groups, packages)


def _publish_on() -> tuple[str, ...]:
    """Where published ports answer on the machine: the loopback, and what `labkit up
    --publish-on` named (LABKIT_PUBLISH_ON, separated by commas)."""
    further = os.environ.get("LABKIT_PUBLISH_ON", "").replace(" ", "").split(",")
    chosen = tuple(str(ipaddress.ip_address(word)) for word in further if word)
    covered = {ipaddress.ip_address(word).version for word in chosen
               if ipaddress.ip_address(word).is_unspecified}  # fmt: skip
    loopback = {4: "127.0.0.1", 6: "::1"}
    own = (text for version, text in loopback.items() if version not in covered)
    return tuple(dict.fromkeys((*chosen, *own)))


def _shared_images() -> list[Path]:
    """Image stores to read besides our own (LABKIT_SHARED_IMAGES, separated like PATH)."""
    return [Path(word) for word in os.environ.get("LABKIT_SHARED_IMAGES", "").split(":") if word]


def remove_folder(folder: Path) -> None:
    """Remove a tree without ever following a link out of it."""
    from labkit.host.image.beneath import open_directory, remove_tree

    with contextlib.suppress(FileNotFoundError):
        parent = open_directory(folder.parent)
        try:
            remove_tree(folder.name, dir_fd=parent)
        finally:
            os.close(parent)
