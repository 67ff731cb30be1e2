"""`RUN --mount=type=cache`: folders that outlive builds, what they take, and their removal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_duration_ns
from labkit.host.image.beneath import open_directory, remove_tree
from labkit.host.image.builder.instructions import RunMount
from labkit.host.image.builder.ports import BuildMount
from labkit.host.image.model import format_time
from labkit.host.image.store import ImageStore

__all__ = ["CacheMounts"]


class CacheMounts:
    """`ROOT/buildcache/KEY/{data,cache.json}`: one folder per cache id, shared by all builds."""

    def __init__(self, store: ImageStore) -> None:
        self._folder = store.root / "buildcache"
        self._store = store
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._files = threading.Lock()

    async def enter(self, mount: RunMount, stack: AsyncExitStack, scratch: Path) -> BuildMount:
        """The mount for one RUN; what `sharing` promises holds until `stack` is closed."""
        key = hashlib.sha256(mount.id.encode()).hexdigest()[:32]
        if mount.sharing == "locked":
            await stack.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
        private = mount.sharing == "private" and self._users.get(key, 0) > 0
        if private:
            folder = scratch
        else:
            self._users[key] = self._users.get(key, 0) + 1
            stack.callback(self._leave, key)
            folder = await asyncio.to_thread(self._open, key, mount)
        return BuildMount("bind", mount.target, folder, mount.readonly)

    def _leave(self, key: str) -> None:
        self._users[key] -= 1

    def _open(self, key: str, mount: RunMount) -> Path:
        with self._files:  # stages run at the same time
            return self._made(key, mount)

    def _made(self, key: str, mount: RunMount) -> Path:
        folder = self._folder / key
        data = folder / "data"
        if not data.is_dir():
            data.mkdir(parents=True)
            with suppress(OSError):  # an id outside a rootless lab's map
                os.chown(data, mount.uid, mount.gid)
            data.chmod(0o755 if mount.mode is None else mount.mode)
        before = _record(folder) or {}
        now = self._store.now_ns()
        record = {
            "id": mount.id,
            "created_ns": before.get("created_ns", now),
            "used_ns": now,
            "uses": before.get("uses", 0) + 1,
        }
        (folder / "cache.json.new").write_text(json.dumps(record))
        (folder / "cache.json.new").rename(folder / "cache.json")
        return data

    def records(self) -> list[dict[str, Any]]:
        """Every cache as `GET /system/df` shows it: BuildCache records of type exec.cachemount."""
        found = []
        for folder in sorted(self._folder.glob("*")):
            record = _record(folder)
            if record is None:
                continue
            found.append(
                {
                    "ID": folder.name,
                    "Type": "exec.cachemount",
                    "Description": f"cached mount {record['id']}",
                    "InUse": self._users.get(folder.name, 0) > 0,
                    "Shared": False,
                    "Size": _size(folder / "data"),
                    "CreatedAt": format_time(record.get("created_ns", record["used_ns"])),
                    "LastUsedAt": format_time(record["used_ns"]),
                    "UsageCount": record.get("uses", 1),
                }
            )
        return found

    def prune(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, keep_bytes: int = 0
    ) -> dict[str, Any]:
        """`POST /build/prune`: remove the caches that no build uses, the longest unused first.

        `filters`: id, type, description, inuse, shared, private, until (Docker's meaning).
        `keep_bytes` is how much may stay. Raises InvalidParameter.
        """
        with self._files:
            return self._prune(filters or {}, keep_bytes)

    def _prune(self, filters: Mapping[str, Sequence[str]], keep_bytes: int) -> dict[str, Any]:
        removed: list[str] = []
        freed = 0
        if not self._folder.is_dir():
            return {"CachesDeleted": None, "SpaceReclaimed": 0}
        records = self.records()
        before = _moment(filters.get("until", ()), self._store.now_ns())
        left = sum(record["Size"] for record in records)
        fd = open_directory(self._folder)
        try:
            for record in sorted(records, key=lambda record: str(record["LastUsedAt"])):
                if keep_bytes and left <= keep_bytes:
                    break
                is_recent = before is not None and record["LastUsedAt"] >= before
                if record["InUse"] or is_recent or not _matches(record, filters):
                    continue
                remove_tree(record["ID"], dir_fd=fd)
                removed.append(record["ID"])
                freed += record["Size"]
                left -= record["Size"]
        finally:
            os.close(fd)
        return {"CachesDeleted": removed or None, "SpaceReclaimed": freed}


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "cache.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "id" in found and "used_ns" in found else None


def _moment(texts: Sequence[str], now_ns: int) -> str | None:
    """`until=24h`: the moment before which a cache must have been used last."""
    if not texts:
        return None
    if len(texts) > 1:
        raise InvalidParameter("more than one until filter specified")
    return format_time(now_ns - parse_duration_ns(texts[0]))


def _matches(record: Mapping[str, Any], filters: Mapping[str, Sequence[str]]) -> bool:
    for name, values in filters.items():
        if name in ("id", "type", "description"):
            text = str(record[{"id": "ID"}.get(name, name.capitalize())])
            if not any(value in text for value in values):
                return False
        elif name in ("inuse", "shared"):
            return False  # what is in use stays, and no cache of this kind is shared
        elif name not in ("private", "until", "dangling"):
            raise InvalidParameter(f"invalid filter '{name}'")
    return True


def _size(folder: Path) -> int:
    from labkit.host.image.treewalk import walk

    fd = open_directory(folder)
    try:
        return sum(found.st_size for _, found, _, _ in walk(fd) if stat.S_ISREG(found.st_mode))
    finally:
        os.close(fd)
