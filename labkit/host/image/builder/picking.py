"""Which names of a tree the sources of COPY and ADD mean: plain, with wildcards, with their
folders (`--parents`), without some (`--exclude`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from labkit.base.dockerignore import IgnoreRules, pattern_to_regex
from labkit.base.errors import InvalidParameter, NotFound
from labkit.host.image.builder.trees import Node, SourceTree
from labkit.host.image.builder.treeviews import WithoutTree

__all__ = ["Picked", "pick", "pick_with_folders", "without"]

_WILDCARD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class Picked:
    """One source: a node, and the tree it is in. `is_local` files may be unpacked by ADD.

    `folders` are those that --parents keeps: (path below the destination, path in the tree).
    """

    tree: SourceTree
    node: Node
    name: str
    is_local: bool = True
    folders: tuple[tuple[str, str], ...] = ()


def pick(tree: SourceTree, source: str, *, word: str, where: str) -> list[Picked]:
    """The nodes that one source names. Raises NotFound, InvalidParameter with Docker's words."""
    path = source.lstrip("/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    depth = 0
    for part in parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise InvalidParameter(
                f"{word} failed: forbidden path outside the build context: {source} ()",
                hint="only files below the build context can be copied; build from a folder above",
            )
    if _WILDCARD.search(path):
        found = list(_matching(tree, "/".join(parts)))
        if not found:
            raise NotFound(f"{word} failed: no source files were specified")
        return [Picked(tree, node, node.path.rpartition("/")[2]) for node in found]
    node = tree.find("/".join(parts))
    if node is None:
        raise NotFound(
            f"{word} failed: file not found in {where}: stat {source}: file does not exist",
            hint="paths are relative to the build context; .dockerignore may exclude it",
        )
    name = parts[-1] if parts else ""
    return [Picked(tree, node, name if name != ".." else node.path.rpartition("/")[2])]


def _matching(tree: SourceTree, pattern: str) -> Iterator[Node]:
    """Depth first, one folder per part of the pattern; `**` stands for any number of them."""
    root = tree.find("")
    if root is None:
        return
    parts = pattern.split("/")

    def below(folder: Node, at: int) -> Iterator[Node]:
        if parts[at] == "**" and at + 1 < len(parts):
            yield from below(folder, at + 1)
            for child in tree.children(folder):
                if child.is_folder:
                    yield from below(child, at)
            return
        regex = pattern_to_regex(parts[at], deep=False)
        for child in tree.children(folder):
            if not regex.match(child.path.rpartition("/")[2]):
                continue
            real = tree.find(child.path)
            if real is None:
                continue
            if at + 1 == len(parts):
                # A link counts under its own name with its target's content.
                yield Node(child.path, real.entry, real.offset, real.digest, real.found)
            elif real.is_folder:
                yield from below(real, at + 1)

    yield from below(root, 0)


def pick_with_folders(tree: SourceTree, source: str, *, word: str, where: str) -> list[Picked]:
    """As `pick`, for --parents: what is before a `/./` in `source` is not kept."""
    top, pivot, _ = source.partition("/./")
    base = "/".join(part for part in top.split("/") if part not in ("", ".")) if pivot else ""
    found: dict[str, Picked] = {}
    for item in pick(tree, source, word=word, where=where):
        path = item.node.path
        below = path.removeprefix(f"{base}/") if base and path != base else path
        parts = below.split("/") if below and path != base else []
        kept = parts if item.node.is_folder else parts[:-1]
        names = ["/".join(kept[:length]) for length in range(1, len(kept) + 1)]
        folders = tuple((name, f"{base}/{name}" if base else name) for name in names)
        found.setdefault(path, replace(item, folders=folders))
    return list(found.values())


def without(picked: list[Picked], patterns: tuple[str, ...]) -> list[Picked]:
    """Leave out what --exclude names; its paths count from each source (with --parents: from
    the destination)."""
    rules = IgnoreRules("\n".join(patterns))
    if not rules:
        return picked
    found = []
    for item in picked:
        kept = item.folders[-1][0] if item.folders else ""
        if not item.node.is_folder:
            if not rules.excludes(f"{kept}/{item.name}" if kept else item.name):
                found.append(item)
            continue
        top = item.node.path.removesuffix(kept).rstrip("/") if kept else item.node.path
        found.append(replace(item, tree=WithoutTree(item.tree, top, rules)))
    return found
