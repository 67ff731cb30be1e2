"""COPY and ADD: where sources go, and the layer that comes of it (picking.py says which).

Rules (Dockerfile reference, COPY): a folder as source means its content; several sources need a
destination that ends in a slash; a destination that is a folder of the image takes a file under
its own name; missing folders are made with mode 0755 for the owner given by --chown, else root.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from labkit.base.errors import InvalidParameter
from labkit.host.image.builder.picking import Picked
from labkit.host.image.builder.trees import (
    Node,
    SourceTree,
    SpooledTree,
    UnionTree,
    resolve,
)
from labkit.host.image.builder.treeviews import unpacked
from labkit.host.image.entry import WHITEOUT_PREFIX, Entry
from labkit.host.image.tarwrite import TarWriter

__all__ = ["CopyOptions", "LayerPlan", "fingerprint"]


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How copies look: owner and mode given, or None for root and the source's mode."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None
    unpack: bool = False
    keep_owner: bool = False


def fingerprint(picked: Iterable[Picked]) -> str:
    """What history and the cache call the sources: `file:…`, `dir:…`, `multi:…`.

    Names, kinds, modes, owners and contents count; times do not.
    """
    hashes = []
    for item in picked:
        digest = hashlib.sha256()
        _fingerprint(
            item.tree, item.node, item.name if not item.node.is_folder else "", digest.update
        )
        hashes.append(f"{'dir' if item.node.is_folder else 'file'}:{digest.hexdigest()}")
    if len(hashes) == 1:
        return hashes[0]
    return "multi:" + hashlib.sha256(",".join(hashes).encode()).hexdigest()


def _fingerprint(
    tree: SourceTree, node: Node, name: str, update: Callable[[bytes], object]
) -> None:
    entry = node.entry
    kind = "file" if entry.kind == "link" else entry.kind
    words = [name, kind, f"{entry.mode:o}", str(entry.uid), str(entry.gid)]
    if kind == "file":
        words.append(tree.digest(node))
    elif kind == "symlink":
        words.append(entry.link)
    elif kind != "dir":
        words += [str(entry.major), str(entry.minor)]
    words += [f"{key}={value.hex()}" for key, value in sorted(entry.xattrs.items())]
    update("\0".join(words).encode("utf-8", "surrogateescape") + b"\n")
    if node.is_folder:
        for child in tree.children(node):
            below = child.path.rpartition("/")[2]
            _fingerprint(tree, child, f"{name}/{below}" if name else below, update)


@dataclass(slots=True)
class _Member:
    entry: Entry
    tree: SourceTree | None = None
    node: Node | None = None


@dataclass(slots=True)
class LayerPlan:
    """The members of the layer under way, over the image below it.

    `now_ns` is the time of folders made for it; `scratch` is where archives are unpacked.
    """

    base: UnionTree
    scratch: Path
    now_ns: int
    _members: dict[str, _Member] = field(default_factory=dict)
    _real: dict[str, str] = field(default_factory=dict)
    _opened: list[SpooledTree] = field(default_factory=list)

    def close(self) -> None:
        for tree in self._opened:
            tree.close()

    # -- where things are --------------------------------------------------------------------

    def _resolved(self, path: str) -> str:
        """`path` with the image's links followed, so that no member stands below a link."""
        if path not in self._real:
            parts = [part for part in path.split("/") if part not in ("", ".")]
            self._real[path] = "/".join(resolve(parts, self._link_text))
        return self._real[path]

    def _link_text(self, path: str) -> str | None:
        member = self._members.get(path)
        if member is not None:
            return member.entry.link if member.entry.kind == "symlink" else None
        return self.base.link_text(path)

    def _existing(self, path: str) -> Entry | None:
        member = self._members.get(path)
        if member is not None:
            return member.entry
        node = self.base.find(path, follow=False)
        return None if node is None else node.entry

    def is_folder(self, path: str) -> bool:
        """Whether the destination is a folder already."""
        found = self._existing(self._resolved(path))
        return found is not None and found.kind == "dir"

    # -- putting things ----------------------------------------------------------------------

    def folder(self, path: str, uid: int = 0, gid: int = 0, mode: int = 0o755) -> str:
        """Make sure that `path` is a folder; returns where it really is."""
        real = self._resolved(path)
        parts = real.split("/") if real else []
        for length in range(1, len(parts) + 1):
            above = "/".join(parts[:length])
            if above in self._members:
                if self._members[above].entry.kind != "dir":
                    raise InvalidParameter(f"cannot copy to non-directory: /{above}")
                continue
            node = self.base.find(above, follow=False)
            if node is not None and not node.is_folder:
                raise InvalidParameter(f"cannot copy to non-directory: /{above}")
            # A folder in a layer speaks for those below: it repeats what the image says of it.
            entry = (
                node.entry
                if node is not None
                else Entry(above, "dir", mode, uid, gid, mtime_ns=self.now_ns)
            )
            self._members[above] = _Member(replace(entry, name=above))
        return real

    def _put(self, path: str, entry: Entry, tree: SourceTree, node: Node) -> None:
        parent, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT_PREFIX):
            raise InvalidParameter(
                f"cannot copy {name}: in a layer, names that begin with {WHITEOUT_PREFIX} "
                "mean deletions"
            )
        real = f"{self.folder(parent)}/{name}".lstrip("/")
        existing = self._existing(real)
        if existing is not None and existing.kind == "dir" and entry.kind != "dir":
            raise InvalidParameter(f"cannot replace to directory /{real} with file")
        self._members[real] = _Member(replace(entry, name=real), tree, node)

    def copy(self, picked: Picked, destination: str, options: CopyOptions) -> None:
        """Put one source at `destination` (absolute; a slash at its end means a folder)."""
        if picked.folders:
            destination = self._with_folders(picked, destination, options)
        if picked.node.is_folder:
            target = self.folder(destination, options.uid, options.gid)
            self._copy_below(picked.tree, picked.node, target, options, target)
            return
        if options.unpack and picked.is_local:
            inner = unpacked(picked.tree, picked.node, self.scratch)
            if inner is not None:
                self._opened.append(inner)
                target = self.folder(destination)
                top = inner.find("")
                assert top is not None
                self._copy_below(inner, top, target, CopyOptions(keep_owner=True), target)
                return
        if destination.endswith("/") or self.is_folder(destination):
            target = f"{self.folder(destination, options.uid, options.gid)}/{picked.name}"
        else:
            parent, _, name = destination.rpartition("/")
            target = f"{self.folder(parent, options.uid, options.gid)}/{name}"
            # A destination that is a link stands for what it leads to.
            target = self._resolved(target)
        self._put(target.lstrip("/"), self._styled(picked.node, options), picked.tree, picked.node)

    def _with_folders(self, picked: Picked, destination: str, options: CopyOptions) -> str:
        """Make the folders that --parents keeps, as they are in the source."""
        top = destination.rstrip("/")
        self.folder(top, options.uid, options.gid)
        for below, path in picked.folders:
            real = self._resolved(f"{top}/{below}")
            node = picked.tree.find(path)
            if node is not None and self._existing(real) is None:
                self._members[real] = _Member(replace(self._styled(node, options), name=real))
        return f"{top}/{picked.folders[-1][0]}/"

    def _copy_below(
        self, tree: SourceTree, folder: Node, target: str, options: CopyOptions, root: str
    ) -> None:
        """`target` is where `folder` goes; `root` is where the whole tree goes."""
        for child in tree.children(folder):
            name = child.path.rpartition("/")[2]
            path = f"{target}/{name}".lstrip("/")
            if not child.is_folder:
                entry = self._styled(child, options)
                if child.entry.kind == "link" and options.keep_owner:
                    parts = [part for part in child.entry.link.split("/") if part not in ("", ".")]
                    entry = replace(child.entry, link="/".join([*filter(None, [root]), *parts]))
                self._put(path, entry, tree, child)
                continue
            real = self._resolved(path)
            existing = self._existing(real)
            if existing is not None and existing.kind != "dir":
                raise InvalidParameter(f"cannot copy to non-directory: /{real}")
            self.folder(target)
            self._members[real] = _Member(replace(self._styled(child, options), name=real))
            self._copy_below(tree, child, real, options, root)

    def _styled(self, node: Node, options: CopyOptions) -> Entry:
        entry = node.entry
        if entry.kind == "link":  # a copy of one name of a file is a file
            entry = replace(entry, kind="file", link="")
        if options.keep_owner:
            return entry
        mode = entry.mode if options.mode is None or entry.kind == "symlink" else options.mode
        return replace(entry, uid=options.uid, gid=options.gid, mode=mode)

    # -- the result --------------------------------------------------------------------------

    def write(self, write: Callable[[bytes], object], *, clamp_ns: int | None = None) -> None:
        """Write the layer as a tar, sorted; hard links last, when what they name is there."""
        writer = TarWriter(write)
        paths = sorted(self._members, key=os.fsencode)
        links = [path for path in paths if self._members[path].entry.kind == "link"]
        for path in [path for path in paths if self._members[path].entry.kind != "link"] + links:
            member = self._members[path]
            entry = member.entry
            if clamp_ns is not None and entry.mtime_ns > clamp_ns:
                entry = replace(entry, mtime_ns=clamp_ns)
            content: Iterable[tuple[int, bytes]] = ()
            if entry.kind == "file" and member.tree is not None and member.node is not None:
                entry = replace(entry, size=member.tree.size(member.node))
                content = member.tree.content(member.node)
            writer.add(entry, content)
        writer.close()
