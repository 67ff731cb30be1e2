"""Where the files of containers come from, for the mounts view: places, containers, and who
mounts what where."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.host.engine.container import Container, MountRecord
    from labkit.host.engine.context import Context

__all__ = ["mount_view"]

Json = dict[str, Any]


async def mount_view(context: Context, references: list[str]) -> Json:
    """Containers (`references`, or all) with their mounts, and every volume there is.

    Sizes are in bytes of files. Raises NotFound for an unknown container.
    """
    chosen = [context.find(one) for one in references] or list(context.containers.values())
    names = context.volumes.names()
    if references:
        used = {mount.name for one in chosen for mount in one.definition.mounts if mount.name}
        names = [name for name in names if name in used]
    sizes = await asyncio.to_thread(lambda: {name: context.volumes.size(name) for name in names})
    return {
        "containers": [_container(one) for one in chosen],
        "volumes": [
            {
                "name": name,
                "anonymous": context.volumes.get(name).is_anonymous,
                "bytes": sizes[name],
                "users": [context.containers[one].name for one in context.volumes.users_of(name)],
            }
            for name in names
        ],
    }


def _container(container: Container) -> Json:
    return {
        "id": container.id,
        "name": container.name,
        "state": container.state.status,
        "image": container.definition.image,
        "read_only": container.definition.host.readonly_rootfs,
        "mounts": [_mount(mount) for mount in container.definition.mounts],
    }


def _mount(mount: MountRecord) -> Json:
    return {
        "kind": mount.kind,
        "name": mount.name,
        "source": "" if mount.kind == "tmpfs" else mount.source,
        "target": mount.target,
        "writable": mount.writable,
    }
