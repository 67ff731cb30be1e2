"""A store whose process is killed at any call of a removal or a prune is whole afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.host.image.store import ImageStore

HERE = Path(__file__).parent
VICTIM = """
import os, signal, sys
sys.path[:0] = [{here!r}]
from trees import members
from labkit.host.image.entry import Entry
from labkit.host.image.ingest import ingest
from labkit.host.image.commit import add_layer
from labkit.host.image.reference import parse
from labkit.host.image.store import ImageStore
import io
root, work, fatal = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = ImageStore(__import__("pathlib").Path(root))
def image(name, *texts):
    made = None
    for text in texts:
        layer = ingest(store, io.BytesIO(members((Entry(text), text.encode() * 50))))
        with store.lease(layer.digest, layer.diff_id):
            found = add_layer(store, made, layer, defaults={{}}, created_by=text,
                              parent=made.id if made else "", created_ns=1)
            if name and text == texts[-1]:
                store.set_tag(parse(name), found)
            made = store.get(found)
if work == "fill":
    image("kept:1", "base", "kept")
    image("gone:1", "base", "gone", "more")
    image("", "base", "dangling")
else:
    count = 0
    def counted(name):
        real = getattr(os, name)
        def call(*words, **more):
            global count
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)
        setattr(os, name, call)
    for name in ("unlink", "rename", "rmdir", "replace", "open", "listdir", "stat"):
        counted(name)
    if work == "remove":
        store.remove("gone:1")
    else:
        store.prune(dangling=True)
store.close()
"""


def _run(root: Path, work: str, fatal: int = 0) -> int:
    return subprocess.run(
        [sys.executable, "-c", VICTIM.format(here=str(HERE)), str(root), work, str(fatal)],
        check=False,
        timeout=60,
    ).returncode


def _problems(store: ImageStore) -> list[str]:
    """What is wrong with what is left: files without a row, rows without a file, bad content."""
    known = {layer.diff_id for layer in store.index.layers()}
    folders = {f"sha256:{name}" for name in os.listdir(store.layers.folder) if len(name) == 64}
    wrong = [f"layer without a folder {name}" for name in known - folders]
    wrong += [f"folder without a layer {name}" for name in folders - known]
    wrong += [f"left over {name}" for name in os.listdir(store.layers.folder) if name[0] == "."]
    wrong += [blob for blob in store.blobs.all() if not store.index.blob_users(blob)]
    for image in store.images(all=True):
        wrong += store.verify(image.id)
    return wrong


@pytest.mark.parametrize("work", ["remove", "prune"])
@pytest.mark.parametrize("fatal", [1, 3, 8, 17, 40])
def test_a_removal_killed_at_any_call_leaves_a_store_that_is_whole(
    tmp_path: Path, work: str, fatal: int
) -> None:
    root = tmp_path / "docker"
    assert _run(root, "fill") == 0
    code = _run(root, work, fatal)
    assert code == -9 or fatal > 3
    store = ImageStore(root)
    try:
        assert not _problems(store)
        assert store.get("kept:1").repo_tags == ("kept:1",)
        assert not store.verify("kept:1")
        # And the work can be done once more, to its end.
        if any("gone:1" in image.repo_tags for image in store.images()):
            store.remove("gone:1")
        store.prune(dangling=True)
        assert [image.repo_tags for image in store.images()] == [("kept:1",)]
        assert not _problems(store)
    finally:
        store.close()
