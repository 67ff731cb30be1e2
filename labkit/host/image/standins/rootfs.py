"""Put a root file system together in memory and write it as one reproducible archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.host.image.entry import Entry
from labkit.host.image.tarwrite import TarWriter

__all__ = ["RootBuilder"]


@dataclass(slots=True)
class _Member:
    entry: Entry
    source: Path | bytes = b""


class RootBuilder:
    """Members by path; folders above a member are made with mode 0755 as needed."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self.newest_ns = 0
        """Modification time of the newest file taken from the machine: the image's own age."""

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self._members

    def paths(self) -> set[str]:
        """The names of all members."""
        return set(self._members)

    def folder(self, path: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> None:
        path = self._placed(path)
        self._members[path] = _Member(Entry(path, "dir", mode, uid, gid))

    def text(self, path: str, content: str, mode: int = 0o644, *, gid: int = 0) -> None:
        """A file with the given text."""
        data = content.encode()
        path = self._placed(path)
        self._members[path] = _Member(Entry(path, "file", mode, gid=gid, size=len(data)), data)

    def copy(self, source: Path, path: str, mode: int | None = None) -> None:
        """A file of this machine; owner root, and its mode unless given."""
        found = source.stat()
        path = self._placed(path)
        self.newest_ns = max(self.newest_ns, found.st_mtime_ns)
        bits = found.st_mode & 0o7777 if mode is None else mode
        self._members[path] = _Member(Entry(path, "file", bits, size=found.st_size), source)

    def symlink(self, path: str, target: str) -> None:
        path = self._placed(path)
        self._members.setdefault(path, _Member(Entry(path, "symlink", 0o777, link=target)))

    def hard_link(self, path: str, target: str) -> None:
        """A second name of the member `target`."""
        path = self._placed(path)
        self._members.setdefault(path, _Member(Entry(path, "link", 0o755, link=target.strip("/"))))

    def _placed(self, path: str) -> str:
        """The member's true name, its folders made.

        A folder may be a link among the members (/sbin to usr/sbin, as Debian has it); what lies
        below it has to be written below what it leads to, which comes later in the archive.
        """
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            above = self._members.get("/".join(parts[:depth]))
            if above is not None and above.entry.kind == "symlink":
                target = os.path.join("/", *parts[: depth - 1], above.entry.link)
                return self._placed(os.path.normpath("/".join((target, *parts[depth:]))))
        path = "/".join(parts)
        self._parents(path)
        return path

    def _parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self._members:
            self.folder(parent)

    def write(self, writer: TarWriter) -> None:
        """Write all members, sorted; hard links last, since a link needs its target."""
        created = self.newest_ns // 1_000_000_000 * 1_000_000_000
        ordered = sorted(self._members, key=os.fsencode)
        for links in (False, True):
            for path in ordered:
                member = self._members[path]
                if (member.entry.kind == "link") is not links:
                    continue
                member.entry.mtime_ns = created
                writer.add(member.entry, _content(member))
        writer.close()


def _content(member: _Member) -> Iterator[tuple[int, bytes]]:
    if isinstance(member.source, bytes):
        if member.source:
            yield 0, member.source
        return
    position = 0
    with open(member.source, "rb") as file:
        while position < member.entry.size:
            data = file.read(min(1 << 20, member.entry.size - position))
            if not data:
                return
            yield position, data
            position += len(data)
