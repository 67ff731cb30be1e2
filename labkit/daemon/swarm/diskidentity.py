"""Whose disk is this, and how often has it come up? So that an old copy of it is noticed.

Raft trusts a member to remember its vote and what it has promised to hold. A disk that was restored
from a copy has forgotten some of that, and could help to elect a leader without committed entries.
So each disk carries a random name and counts its starts, members remember what they have seen of
each other, and whoever comes with an older count, or with another disk, is not let in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.errors import Conflict, InvalidParameter, SystemFailure

__all__ = ["Acquaintances", "DiskIdentity", "ForeignDisk", "OldDisk", "start_up", "write_json"]


class OldDisk(Conflict):
    """The member's disk was restored from an older copy."""


class ForeignDisk(Conflict):
    """The member has come with another disk than before."""


class DiskIdentity(NamedTuple):
    """A disk's random name, and which of its starts this is."""

    name: str
    starts: int


def write_json(path: Path, value: Any) -> None:
    """Write a small file whole, durably, or not at all. Raises SystemFailure."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise SystemFailure(f"cannot write {path}: {error.strerror}") from error


def start_up(folder: Path) -> DiskIdentity:
    """Count one more start of this disk; a fresh one gets its name. Raises SystemFailure."""
    path = folder / "disk.json"
    try:
        found = json.loads(path.read_text())
        identity = DiskIdentity(str(found["name"]), int(found["starts"]) + 1)
    except FileNotFoundError:
        identity = DiskIdentity(os.urandom(8).hex(), 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemFailure(f"cannot read {path}: {error}") from None
    write_json(path, identity._asdict())
    return identity


class Acquaintances:
    """What one member has seen of the others' disks, kept on its own."""

    def __init__(self, path: Path) -> None:
        """Raises SystemFailure when there is a file that cannot be read."""
        self._path = path
        self._seen: dict[int, DiskIdentity] = {}
        if path.exists():
            try:
                for node, (name, starts) in json.loads(path.read_text()).items():
                    self._seen[int(node)] = DiskIdentity(str(name), int(starts))
            except (OSError, ValueError, TypeError) as error:
                raise SystemFailure(f"cannot read {path}: {error}") from None

    def check(self, node: int, name: str, hello: Mapping[str, Any]) -> None:
        """Let a member in by its introduction. Raises OldDisk, ForeignDisk or InvalidParameter."""
        disk, starts = hello.get("disk"), hello.get("starts")
        if not isinstance(disk, str) or type(starts) is not int or starts < 1:
            raise InvalidParameter(f"{name} does not say which disk it has")
        known = self._seen.get(node)
        if known is not None and known.name != disk:
            raise ForeignDisk(
                f"{name} has come with another disk: what it had promised is lost",
                hint=f"remove {name} and add a new node",
            )
        if known is not None and starts < known.starts:
            raise OldDisk(
                f"{name} says that its disk starts for the {starts}. time, after it had started "
                f"{known.starts} times: an old copy was restored",
                hint=f"remove {name} and add a new node",
            )
        fresh = DiskIdentity(disk, starts)
        if fresh != known:
            self._seen[node] = fresh
            write_json(self._path, {str(n): list(seen) for n, seen in self._seen.items()})

    def forget(self, node: int) -> None:
        """It is no member any more."""
        self._seen.pop(node, None)
