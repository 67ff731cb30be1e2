"""Names of a layer's members, and overlayfs's mark for a folder that hides what lies below it."""

from __future__ import annotations

import os
import re

from labkit.base.errors import InvalidParameter, SystemFailure

__all__ = ["OPAQUE_XATTRS", "clean_name", "set_opaque"]

OPAQUE_XATTRS = ("trusted.overlay.opaque", "user.overlay.opaque", "user.labkit.opaque")
"""The first two are both written where allowed: a mount with `userxattr` reads only the second.
The third is for file systems that are overlays themselves and refuse the others."""
_MAX_PATH = 4096
# Relative, printable ASCII, no empty part, no part that begins with a dot or is too long.
_IS_CLEAN = re.compile(r"(?:[!-\-0-~][!-.0-~]{0,199}/)*[!-\-0-~][!-.0-~]{0,199}\Z").match


def clean_name(name: str) -> list[str]:
    """The parts of a member's name below the root.

    Absolute names count from the layer's root, as tar has always taken them.
    Raises InvalidParameter for a name that climbs out or that no file system would take.
    """
    parts: list[str] = name.split("/")
    # Most names are clean already, and an archive may hold a million of them.
    if len(name) < 256 and _IS_CLEAN(name):
        return parts
    parts = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise InvalidParameter(
                    f"cannot apply the layer: {name!r} leads out of it",
                    hint="the archive is broken or hostile; nothing outside was touched",
                )
            parts.pop()
            continue
        if len(os.fsencode(part)) > 255:
            raise InvalidParameter(f"cannot apply the layer: a name of {len(part)} characters")
        parts.append(part)
    if len(os.fsencode("/".join(parts))) >= _MAX_PATH:
        raise InvalidParameter("cannot apply the layer: a path is longer than 4095 bytes")
    return parts


def set_opaque(dir_fd: int) -> None:
    """Mark the folder as hiding what lower layers have under its name."""
    done = False
    for name in OPAQUE_XATTRS:
        if done and name == OPAQUE_XATTRS[-1]:
            return
        try:
            os.setxattr(dir_fd, name, b"y")
            done = True
        except OSError as error:
            last = error
    if not done:
        raise SystemFailure(
            f"cannot mark a folder as opaque: {last.strerror}",
            hint="labkit's data must lie on a file system with extended attributes",
        ) from last
