"""Named and anonymous volumes of the local driver: folders under volumes/NAME/_data.

A volume outlives its containers. It is filled from the image the first time a container mounts
it empty, as Docker does, so that a database finds its initial files.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, NotFound
from labkit.base.ids import new_id
from labkit.host.engine.rootfiles import RootFiles

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["Volume", "Volumes", "check_volume_name"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_ANONYMOUS = "com.docker.volume.anonymous"


def check_volume_name(name: str) -> str:
    """InvalidParameter with Docker's sentence for a name it would refuse."""
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

    @property
    def is_anonymous(self) -> bool:
        return _ANONYMOUS in self.labels


class Volumes:
    """The volumes of one host."""

    def __init__(self, context: Context, stored: Iterable[Mapping[str, Any]]) -> None:
        self._context = context
        self._volumes = {row["name"]: Volume(**row) for row in stored}

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

    async def ensure(self, name: str = "", labels: Mapping[str, str] | None = None) -> Volume:
        """The volume called `name`, made when missing; no name makes an anonymous one."""
        if not name:
            name, labels = new_id(), {_ANONYMOUS: ""}
        found = self._volumes.get(check_volume_name(name))
        if found is not None:
            return found
        volume = Volume(name, time.time_ns(), dict(labels or {}))
        await asyncio.to_thread(self.folder(name).mkdir, 0o755, parents=True, exist_ok=True)
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
        folder = self.folder(name)
        if not any(folder.iterdir()):
            files.copy_folder(target, folder)
