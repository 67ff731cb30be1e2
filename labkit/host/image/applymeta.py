"""Owners, modes, attributes and times of what a layer brings; what is refused is remembered."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Any

from labkit.host.image.beneath import proc_path
from labkit.host.image.entry import Entry

__all__ = ["Applied", "Metadata"]


@dataclass(slots=True)
class Applied:
    """What came of applying one layer."""

    size: int = 0
    """Bytes of file content, which is what Docker calls a layer's size."""
    entries: int = 0
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → what could not be given to it (uid, gid, device, xattrs), to be kept beside it."""


class Metadata:
    """Gives members their metadata. `require_ids` makes a refused owner an error."""

    def __init__(self, result: Applied, *, require_ids: bool) -> None:
        self._result = result
        self.require_ids = require_ids

    def refuse(self, path: str, **what: Any) -> None:
        self._result.refused.setdefault(path, {}).update(what)

    def of_descriptor(self, fd: int, entry: Entry, path: str) -> None:
        # chown first: it drops the set-user-id bits and file capabilities.
        try:
            os.chown(fd, entry.uid, entry.gid)
        except OSError as error:
            self._ids_refused(error, path, entry)
        os.fchmod(fd, entry.mode & 0o7777)
        for key, value in entry.xattrs.items():
            self._xattr(fd, key, value, path)

    def of_name(self, parent: int, name: str, path: str, entry: Entry) -> None:
        try:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            self._ids_refused(error, path, entry)
        if entry.kind != "symlink":
            # The name was made a moment ago in a folder nobody else writes to: no link to follow.
            os.chmod(name, entry.mode & 0o7777, dir_fd=parent)
        for key, value in entry.xattrs.items():
            self._xattr(proc_path(parent, name), key, value, path)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _ids_refused(self, error: OSError, path: str, entry: Entry) -> None:
        if self.require_ids or error.errno not in (errno.EPERM, errno.EINVAL):
            raise error
        self.refuse(path, uid=entry.uid, gid=entry.gid)

    def _xattr(self, target: int | str, key: str, value: bytes, path: str) -> None:
        if key.startswith(("trusted.", "user.overlay.", "user.labkit.")):
            return  # the stack's own marks are never an archive's to set
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ERANGE):
                raise
            kept = self._result.refused.setdefault(path, {}).setdefault("xattrs", {})
            kept[key] = value.hex()
