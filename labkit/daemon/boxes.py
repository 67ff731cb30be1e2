"""The lab's boxes: helper processes that a notebook drives one kernel primitive at a time.

A box dies with its daemon (its command socket closes), but what it left on disk and in the cgroup
tree does not. So every box is in a small file before it exists, and the next daemon clears away
whatever that file still names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict, InvalidParameter, NotFound, Unsupported
from labkit.base.ids import new_id
from labkit.daemon.process import process_start_ticks

if TYPE_CHECKING:
    from labkit.host.isolation.box import BoxProcess
    from labkit.host.isolation.cgroups import CgroupDriver
    from labkit.host.isolation.spec import HostNamespaces

__all__ = ["Box", "BoxRegistry"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}\Z")
_BOXES_MAX = 64


@dataclass(slots=True)
class Box:
    """One living box. `lock` keeps primitives in order: a box does one thing at a time."""

    id: str
    name: str
    labels: dict[str, str]
    process: BoxProcess
    created_ns: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def pid(self) -> int:
        """The process that carries out primitives (its child, once it unshared its pids)."""
        return self.process.pid


class BoxRegistry:
    """Makes, finds, and ends boxes. `data` is the lab host's /var/lib/docker."""

    def __init__(
        self, host: HostNamespaces | None, groups: CgroupDriver, data: Path, record: Path
    ) -> None:
        self.host = host
        self.groups = groups
        self._data = data
        self._record = record
        self._boxes: dict[str, Box] = {}
        self._starting: dict[str, str] = {}

    # -- durable knowledge ---------------------------------------------------------------------

    def sweep(self) -> list[str]:
        """Clear away what boxes of a dead daemon left; their names. Blocking: open() only."""
        from labkit.host.isolation.box_support import clean_boxes

        try:
            found = json.loads(self._record.read_text())
        except (OSError, ValueError):
            found = []
        names = []
        for entry in found if isinstance(found, list) else []:
            pid, ticks = int(entry.get("pid", 0)), int(entry.get("start_ticks", 0))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if pid > 1 and process_start_ticks(pid) == ticks:
                    os.kill(pid, signal.SIGKILL)
            self._remove_files(entry["id"])
            names.append(str(entry.get("name", "")))
        clean_boxes(self.groups)
        self._record.unlink(missing_ok=True)
        return names

    def _save(self) -> None:
        entries: list[dict[str, str | int]] = [
            {"id": key, "name": name} for key, name in self._starting.items()
        ]
        for box in self._boxes.values():
            with contextlib.suppress(ProcessLookupError):
                entries.append(
                    {
                        "id": box.id,
                        "name": box.name,
                        "pid": box.pid,
                        "start_ticks": process_start_ticks(box.pid),
                    }
                )
        fresh = self._record.with_name(f".{self._record.name}.new")
        fresh.write_text(json.dumps(entries))
        fresh.rename(self._record)

    # -- finding -------------------------------------------------------------------------------

    def living(self) -> list[Box]:
        """All boxes, oldest first."""
        return list(self._boxes.values())

    def get(self, reference: str) -> Box:
        """By id, name, or unambiguous id prefix. Raises NotFound."""
        box = self._boxes.get(reference)
        if box is not None:
            return box
        found = [box for box in self._boxes.values() if box.name == reference]
        found = found or [box for box in self._boxes.values() if box.id.startswith(reference)]
        if len(found) != 1 or not reference:
            raise NotFound(f"No such box: {reference[:80]}", hint="box = Box() makes one")
        return found[0]

    def folder(self, box_id: str) -> Path:
        """Where a box's files are, as this daemon sees the path."""
        return self._data / "boxes" / box_id

    # -- life ----------------------------------------------------------------------------------

    async def create(self, name: str, labels: dict[str, str]) -> Box:
        """Start a box on the lab host. Raises Conflict when the name is taken."""
        if self.host is None:
            raise Unsupported(
                "cannot make a box: this lab has no host (hollow mode)",
                hint="`labkit doctor` says what is missing on this machine",
            )
        if _NAME.match(name) is None:
            raise InvalidParameter(
                f"Invalid box name ({name[:80]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        if name in self._starting.values() or any(b.name == name for b in self.living()):
            raise Conflict(
                f'Conflict. The box name "{name}" is already in use.',
                hint=f"close it with Box.find({name!r}).close(), or choose another name",
            )
        if len(self._boxes) + len(self._starting) >= _BOXES_MAX:
            raise Conflict(f"cannot make another box: there are {_BOXES_MAX} already")
        from labkit.host.isolation.box import BoxProcess

        box_id = new_id()
        self._starting[box_id] = name
        try:
            self._save()
            process = await BoxProcess.start(self.host, identifier=box_id, driver=self.groups)
            self._boxes[box_id] = Box(box_id, name, labels, process, time.time_ns())
        finally:
            del self._starting[box_id]
            self._save()
        return self._boxes[box_id]

    async def remove(self, reference: str) -> None:
        """End a box, everything in it, its group and its files."""
        box = self.get(reference)
        async with box.lock:
            if self._boxes.get(box.id) is not box:
                return
            await box.process.close()
            await asyncio.to_thread(self._remove_files, box.id)
            del self._boxes[box.id]
            self._save()

    def note_pids(self) -> None:
        """Write down pids again: a box's pid changes when it unshares its pid namespace."""
        self._save()

    def _remove_files(self, box_id: str) -> None:
        folder = self.folder(box_id)
        if not folder.is_dir():
            return
        from labkit.host.image.beneath import open_directory, remove_tree

        parent = open_directory(folder.parent)
        try:
            remove_tree(folder.name, dir_fd=parent)
        finally:
            os.close(parent)

    async def close(self) -> None:
        """End every box."""
        for box in self.living():
            with contextlib.suppress(NotFound):
                await self.remove(box.id)
