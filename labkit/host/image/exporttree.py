"""Write a stack of layers as one archive of the tree it makes: no layers, no marks."""

from __future__ import annotations

from labkit.host.image.difftree import Members
from labkit.host.image.tarwrite import TarWriter
from labkit.host.image.union import Found, Union

__all__ = ["write_union"]


def write_union(tree: Union, writer: TarWriter) -> None:
    """Write every name of the merged tree, sorted, hard links within a layer as links."""
    members = Members(writer)
    stack: list[tuple[str, Found, list[str]]] = [("", tree.root, tree.names(tree.root)[::-1])]
    while stack:
        path, folder, names = stack[-1]
        if not names:
            stack.pop()
            continue
        name = names.pop()
        found = tree.child(folder, name)
        if found is None:
            continue  # a running container removed it meanwhile
        where = f"{path}/{name}" if path else name
        members.add(where, found.stat, found.dir_fd, name)
        if found.is_folder:
            stack.append((where, found, tree.names(found)[::-1]))
