"""Images in a user namespace that maps one id: what cannot be given is written down instead."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _has_user_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.skipif(not _has_user_namespaces(), reason="no user namespaces here"),
]

_SCRIPT = """
import asyncio, io, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from trees import members
from labkit.host.image.entry import Entry
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore

store = ImageStore(Path(sys.argv[1]))

async def pulled(name):
    return [line async for line in pull(store, name, options=PullOptions(offline=True))]

last = asyncio.run(pulled("busybox"))[-1]["status"]
row = store.layers.unpack(io.BytesIO(members(
    (Entry("etc/theirs", uid=1234, gid=99), b"x"),
    Entry("dev/null", "char", 0o666, major=1, minor=3),
    Entry("etc/.wh.passwd"),
    Entry("home", "dir", 0o755),
    Entry("home/.wh..wh..opq"),
)), None)
layer = store.layers.path(row.diff_id)
refused = json.loads((layer.parent / "refused.json").read_text())
shots = Snapshotter(store)
spec = shots.prepare("c1", store.get("busybox"))
with shots.view("c1") as tree:
    root_line = tree.read("etc/passwd").decode().splitlines()[0]
print(json.dumps({
    "last": last, "refused": refused, "passwd": root_line,
    "opaque": os.getxattr(layer / "home", "user.overlay.opaque").decode(),
    "whiteout": os.stat(layer / "etc/passwd").st_rdev,
    "changes": len(shots.changes("c1")),
}))
shots.remove("c1")
store.close()
"""


def test_a_single_mapped_id_is_enough_to_pull_and_stack(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-Ur", sys.executable, "-c", _SCRIPT, tmp_path / "docker",
         ROOT / "tests/unit/image"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["last"] == "Status: Downloaded newer image for busybox:latest"
    assert found["passwd"].startswith("root:x:0:0")
    assert found["refused"] == {
        "dev/null": {"device": ["char", 1, 3], "mode": 0o666},
        "etc/theirs": {"uid": 1234, "gid": 99},
    }
    assert (found["opaque"], found["whiteout"], found["changes"]) == ("y", 0, 0)
