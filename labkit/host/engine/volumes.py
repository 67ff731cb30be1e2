"""Named and anonymous volumes of the local driver: folders under volumes/NAME/_data.

A volume outlives its containers. It is filled from the image when the first container that mounts
it is created, if it is empty, so that a database finds its initial files. A volume with options
(volumeopts.py) is a mount on the lab host, there for as long as a running container uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import (
    Conflict,
    InvalidParameter,
    LabkitError,
    NotFound,
    SystemFailure,
    Unsupported,
)
from labkit.base.ids import new_id
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.engine.volumeopts import check_options, mount_plan

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["Volume", "Volumes", "check_volume_name"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_ANONYMOUS = "com.docker.volume.anonymous"


def check_volume_name(name: str) -> str:
    """InvalidParameter with Docker's sentence for a name it would refuse."""
    if len(name) == 1:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if not _NAME.match(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    return name


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume of the local driver."""

    name: str
    created_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_anonymous(self) -> bool:
        return _ANONYMOUS in self.labels


class Volumes:
    """The volumes of one host."""

    def __init__(self, context: Context, stored: Iterable[Mapping[str, Any]]) -> None:
        self._context = context
        self._volumes = {row["name"]: Volume(**row) for row in stored}
        self._mounting = asyncio.Lock()

    def folder(self, name: str) -> Path:
        """The volume's files on the machine."""
        return self._context.data / "volumes" / name / "_data"

    def names(self) -> list[str]:
        return sorted(self._volumes)

    def get(self, name: str) -> Volume:
        """The volume called `name`, or NotFound."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def source(self, name: str) -> str:
        """Where a container's mount of the volume comes from, as the lab host sees it."""
        volume = self.get(name)
        return f"/var/lib/docker/volumes/{name}/_data" if volume.options else str(self.folder(name))

    async def ensure(
        self,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        driver: str = "local",
    ) -> Volume:
        """The volume called `name`, made when missing; no name makes an anonymous one.

        Raises Conflict when it exists with other options.
        """
        if driver not in ("", "local"):
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" '
                "not found",
                hint="this lab has the driver local only",
            )
        if not name:
            name, labels = new_id(), {**(labels or {}), _ANONYMOUS: ""}
        found = self._volumes.get(check_volume_name(name))
        if found is not None:
            if options and dict(options) != dict(found.options):
                raise Conflict(
                    f"create {name}: volume already exists with other options",
                    hint=f"`docker volume inspect {name}` shows them",
                )
            return found
        check_options(name, options or {})
        volume = Volume(name, time.time_ns(), dict(labels or {}), dict(options or {}))
        try:
            await asyncio.to_thread(self.folder(name).mkdir, 0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise SystemFailure(f"create {name}: {error.strerror}") from error
        await self._context.records.write(
            ("INSERT OR REPLACE INTO volumes VALUES (?, ?)", (name, json.dumps(asdict(volume))))
        )
        self._volumes[name] = volume
        await self._context.emit("volume", "create", name, {"driver": "local"})
        return volume

    def users_of(self, name: str) -> list[str]:
        """Ids of the containers, running or not, that mount the volume."""
        return [
            container.id
            for container in self._context.containers.values()
            if any(mount.name == name for mount in container.definition.mounts)
        ]

    def size(self, name: str) -> int:
        """Bytes of the volume's files; links are not followed. Blocking."""
        total = 0
        for path, _, names in os.walk(self.folder(name)):
            for file in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(path, file)).st_size
        return total

    async def remove(self, name: str) -> None:
        """Delete a volume nobody uses."""
        self.get(name)
        users = self.users_of(name)
        if users:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(users)}]",
                hint="remove those containers first",
            )
        await self._context.records.write(("DELETE FROM volumes WHERE name = ?", (name,)))
        del self._volumes[name]
        await asyncio.to_thread(shutil.rmtree, self.folder(name).parent, ignore_errors=True)
        await self._context.emit("volume", "destroy", name, {"driver": "local"})

    def fill(self, name: str, target: str, files: RootFiles) -> None:
        """Copy what the image has at `target` into an empty volume, with owners and modes."""
        volume = self.get(name)
        if volume.options:
            source, kind, _, _ = mount_plan(name, volume.options)
            if kind:
                return  # a fresh tmpfs would be gone before anybody saw the files
            folder = Path(self._context.opened(source))
        else:
            folder = self.folder(name)
        with contextlib.suppress(FileNotFoundError):
            if not any(folder.iterdir()):
                files.copy_folder(target, folder)

    # -- volumes with options ----------------------------------------------------------------------

    async def mount(self, name: str) -> None:
        """Have the volume's options mounted on the lab host, if it has any."""
        volume = self.get(name)
        if not volume.options:
            return
        async with self._mounting:
            if self._is_mounted(name):
                return
            source, kind, flags, data = mount_plan(name, volume.options)
            arguments = {"source": source, "fstype": kind, "flags": list(flags), "data": data}
            error = await self._on_host("mount", name, arguments)
        if error:
            raise SystemFailure(
                f"error while mounting volume '{self.source(name)}': failed to mount local volume: "
                f"mount {source}:{self.source(name)}: {error}"
            )

    async def unmount(self, name: str) -> None:
        """Take the mount away again, once no running container uses the volume."""
        if name not in self._volumes or not self._volumes[name].options:
            return
        async with self._mounting:
            if not self._live_users(name) and self._is_mounted(name):
                await self._on_host("umount", name, {"detach": True})

    def _live_users(self, name: str) -> bool:
        return any(
            mount.name == name
            for container in self._context.containers.values()
            if container.state.is_live
            for mount in container.definition.mounts
        )

    def _is_mounted(self, name: str) -> bool:
        host = self._context.ports.host
        if host is None or not host.anchor_pid:
            return False
        with open(f"/proc/{host.anchor_pid}/mountinfo", encoding="utf-8") as file:
            return any(line.split()[4] == self.source(name) for line in file)

    async def _on_host(self, op: str, name: str, arguments: dict[str, Any]) -> str:
        """One primitive in the lab host's mount namespace; the kernel's reason when it refuses."""
        from labkit.host.isolation.box import BoxProcess

        host = self._context.ports.host
        if host is None or not host.anchor_pid:
            raise Unsupported(
                f"error while mounting volume '{name}': this lab has no host of its own to mount on"
            )
        box = await BoxProcess.start(host, identifier=f"volume-{name}")
        try:
            reply = await box.call(op, target=self.source(name), **arguments)
        finally:
            with contextlib.suppress(LabkitError):
                await box.close()
        return "" if reply.ok else os.strerror(reply.errno)
