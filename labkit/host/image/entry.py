"""One member of a layer, as data: what a tar header says and what a tree holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["OPAQUE_MARK", "WHITEOUT_PREFIX", "Entry", "Kind"]

Kind = Literal["file", "dir", "symlink", "link", "char", "block", "fifo"]

WHITEOUT_PREFIX = ".wh."
"""A member `.wh.NAME` says that NAME of a lower layer is gone (OCI image spec, layer.md)."""
OPAQUE_MARK = ".wh..wh..opq"
"""A member of this name says that its folder hides all the lower layers have there."""


@dataclass(slots=True)
class Entry:
    """A file, folder, link or node. Names are relative to the layer's root, without `./`.

    Bytes that are not UTF-8 are kept as surrogate escapes. `link` is a symbolic link's text or,
    for kind `link`, the path of the member this one is a second name of.
    """

    name: str
    kind: Kind = "file"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    """Bytes of content as a reader sees them (holes included)."""
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    extents: list[tuple[int, int]] | None = None
    """Of a sparse file: (offset, length) of each piece of data; None means all of it."""
