"""A build context that the builder fetches itself: `POST /build?remote=`.

A git repository is cloned, an archive behind a URL is the context, and any other text is a
Dockerfile without a context. Reference: Docker Engine API, "Build an image", `remote`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from labkit.base.errors import InvalidParameter
from labkit.base.gitcontext import checkout, is_git_url
from labkit.host.image.builder.ports import Fetcher
from labkit.host.image.builder.trees import SpooledTree
from labkit.host.image.builder.treeviews import folder_tree
from labkit.host.image.entry import Entry

__all__ = ["remote_tree"]

_MAX_DOCKERFILE = 1 << 20
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


def remote_tree(remote: str, fetch: Fetcher, scratch: Path) -> SpooledTree:
    """The context behind `remote`. Blocking. Raises InvalidParameter."""
    folder = scratch / "remote"
    folder.mkdir()
    try:
        if is_git_url(remote):
            return folder_tree(checkout(remote, folder), scratch, leave_out=".git")
        if not remote.startswith(("http://", "https://")):
            raise InvalidParameter(f"unable to prepare context: {remote} is no URL of a context")
        fetched = fetch(remote, folder)
        with open(fetched.path, "rb") as file:
            head = file.read(512)
            file.seek(0)
            if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
                return SpooledTree.from_tar(file, scratch)
            text = file.read(_MAX_DOCKERFILE + 1)
        if len(text) > _MAX_DOCKERFILE:
            raise InvalidParameter(f"{remote} is neither an archive nor a Dockerfile")
        tree = SpooledTree(scratch)
        tree.add("Dockerfile", Entry("Dockerfile", size=len(text)), [(0, text)])
        return tree
    finally:
        shutil.rmtree(folder, ignore_errors=True)
