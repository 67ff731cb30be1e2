"""A lab that is started inside a chroot sees that tree, and nothing leads out of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import labkit
from labkit.base.paths import LabPaths

pytestmark = pytest.mark.root

# Starts a lab host, asks it what it sees, and climbs: first from its root, then from a folder left
# outside of a chroot, which is how one leaves the root of a mount namespace that has a parent.
INSIDE = """
import os, subprocess, sys
from pathlib import Path
from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import run_on_host, start_anchor, stop_anchor
from labkit.host.isolation.probe import probe
paths = LabPaths(Path("/srv/home"), Path("/srv/run"))
paths.prepare()
host = start_anchor(paths, "default", probe(paths))
(paths.host_data() / "layer").write_text("seen through the lab's name")
climb = (
    "import os; os.mkdir('/srv/q'); os.chroot('/srv/q'); [os.chdir('..') for _ in range(64)];"
    "os.chroot('.'); print(os.path.exists('/srv/marker'))"
)
for argv in (
    ["cat", "/srv/marker"],
    ["cat", "/var/lib/docker/layer"],
    [sys.executable, "-c", climb],
):
    process = run_on_host(host, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(process.communicate(timeout=60)[0].decode().strip())
stop_anchor(paths)
"""


@pytest.mark.parametrize("kind", ["mount point", "plain folder"])
def test_a_host_in_a_chroot_has_that_tree_and_no_way_out(paths: LabPaths, kind: str) -> None:
    tree = paths.home / "tree"
    inner = tree if kind == "mount point" else tree / "machine"
    inner.mkdir(parents=True)
    script = f"""
        mount --make-rprivate / && mount -t tmpfs tree {tree} && mkdir -p {inner} &&
        for folder in $(ls /); do
            test -d /$folder && test ! -L /$folder && test $folder != srv || continue
            mkdir -p {inner}/$folder && mount --rbind /$folder {inner}/$folder || exit 1
        done
        find / -maxdepth 1 -type l -exec cp -P {{}} {inner}/ ';'
        mkdir -p {inner}/srv && echo inside >{inner}/srv/marker &&
        exec chroot {inner} "$0" -c "$1"
    """
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, INSIDE]
    environment = {**os.environ, "PYTHONPATH": str(Path(labkit.__file__).parents[1])}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["inside", "seen through the lab's name", "True"]
