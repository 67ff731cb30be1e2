"""A container's writable layer on the kernel's own overlayfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit.host.image.apply import LayerApplier
from labkit.host.image.beneath import open_directory, remove_tree
from labkit.host.image.difftree import write_upper
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore
from labkit.host.image.tarread import TarReader
from labkit.host.image.tarwrite import TarWriter
from labkit.host.isolation.spec import RootSpec

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting an overlay here needs root"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed"),
]
ID = "c" * 64


def run_in(spec: RootSpec, script: str, target: Path) -> str:
    """Run a script with the stack mounted at `target`, in a mount namespace of its own."""
    target.mkdir(exist_ok=True)
    lowers = ":".join(str(path) for path in spec.lowers)
    options = f"lowerdir={lowers},upperdir={spec.upper},workdir={spec.work}"
    command = f'mount -t overlay overlay -o "$1" "$2" && cd "$2" && {{ {script}; }}'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-euc", command, "sh", options, str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def stack(store: ImageStore, busybox: str, tmp_path: Path) -> tuple[Snapshotter, RootSpec, Path]:
    shots = Snapshotter(store)
    return shots, shots.prepare(ID, store.get(busybox)), tmp_path / "merged"


def lines(shots: Snapshotter) -> list[str]:
    return [f"{change.letter} {change.path}" for change in shots.changes(ID)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("true", []),
        ("echo x > new", ["A /new"]),
        ("echo x > etc/new", ["C /etc", "A /etc/new"]),
        ("echo x >> etc/passwd", ["C /etc/passwd"]),
        ("rm etc/group", ["C /etc", "D /etc/group"]),
        ("mkdir -p a/b && touch a/b/c", ["A /a", "A /a/b", "A /a/b/c"]),
        ("rm -r home", ["D /home"]),
        (
            "rm -r etc && mkdir etc && touch etc/x",
            [
                "C /etc",
                "D /etc/group",
                "D /etc/hostname",
                "D /etc/hosts",
                "D /etc/mtab",
                "D /etc/nsswitch.conf",
                "D /etc/passwd",
                "D /etc/resolv.conf",
                "D /etc/shadow",
                "D /etc/shells",
                "A /etc/x",
            ],
        ),
        ("touch t && rm t", []),
        ("rm etc/group && echo new > etc/group", ["C /etc", "C /etc/group"]),
        ("rm -r home && echo f > home", ["C /home"]),
        ("chmod 700 tmp", ["C /tmp"]),
        ("mv etc/passwd etc/p2", ["C /etc", "A /etc/p2", "D /etc/passwd"]),
        ("ln -s /bin/sh x", ["A /x"]),
    ],
)
def test_changes_are_listed_as_docker_diff_lists_them(
    stack: tuple[Snapshotter, RootSpec, Path], script: str, expected: list[str]
) -> None:
    shots, spec, target = stack
    run_in(spec, script, target)
    assert lines(shots) == expected


def test_mount_points_are_below_the_writable_layer(
    stack: tuple[Snapshotter, RootSpec, Path],
) -> None:
    shots, spec, target = stack
    listing = run_in(spec, "ls -a . etc dev", target)
    for name in (".dockerenv", "hosts", "hostname", "resolv.conf", "mtab", "console", "pts", "shm"):
        assert name in listing.split()
    assert lines(shots) == []
    assert shots.size(ID) == 0


def test_the_view_of_a_stopped_container_is_what_it_saw(
    stack: tuple[Snapshotter, RootSpec, Path],
) -> None:
    shots, spec, target = stack
    run_in(
        spec,
        "echo mine > root/note; ln -s /root/note link; ln -s /etc up; rm etc/group; "
        "ln -s ../../../../etc/passwd out; ln -s loop loop",
        target,
    )
    with shots.view(ID) as tree:
        assert tree.read("/link") == b"mine\n"
        assert tree.read("up/passwd").startswith(b"root:")
        assert tree.read("out").startswith(b"root:x:0:0:root:/root:/bin/sh")
        with pytest.raises(FileNotFoundError):
            tree.read("/etc/group")
        with pytest.raises(OSError, match="symbolic links"):
            tree.read("loop")
        assert "group" not in tree.names(tree.lookup("/etc"))
    assert shots.size(ID) == 5


def test_a_committed_layer_stacks_to_the_same_tree(
    stack: tuple[Snapshotter, RootSpec, Path], store: ImageStore, busybox: str, tmp_path: Path
) -> None:
    import io

    shots, spec, target = stack
    script = (
        "rm -r home; mkdir home; touch home/me; rm etc/group; echo x >> etc/passwd; ln bin/sh b"
    )
    run_in(spec, script, target)
    before = run_in(spec, "find . -xdev | sort; cat etc/passwd", target)
    buffer = io.BytesIO()
    fd = open_directory(shots.upper(ID))
    writer = TarWriter(buffer.write)
    write_upper(fd, writer)
    writer.close()
    os.close(fd)
    row = store.layers.unpack(io.BytesIO(buffer.getvalue()), None)
    layer = store.layers.path(row.diff_id)
    assert layer is not None
    for folder in ("upper", "work"):
        (tmp_path / folder).mkdir()
    stacked = RootSpec((layer, *spec.lowers), tmp_path / "upper", tmp_path / "work")
    assert run_in(stacked, "find . -xdev | sort; cat etc/passwd", target) == before
    # The same layer applied by copying gives the same names.
    copied = tmp_path / "copied"
    copied.mkdir()
    fd = open_directory(copied)
    for source in (store.layer_paths(store.get(busybox))[0], layer):
        data = io.BytesIO()
        part = open_directory(source)
        writer = TarWriter(data.write)
        write_upper(part, writer)
        writer.close()
        os.close(part)
        with LayerApplier(fd, deletions="merge") as applier:
            applier.apply(TarReader(io.BytesIO(data.getvalue())))
    os.close(fd)
    assert not (copied / "etc/group").exists()
    assert os.listdir(copied / "home") == ["me"]


def test_without_overlay_the_layers_are_copied(store: ImageStore, busybox: str) -> None:
    shots = Snapshotter(store, overlay=False)
    spec = shots.prepare(ID, store.get(busybox))
    assert spec.lowers == ()
    assert spec.path is not None
    assert (spec.path / "bin/sh").stat().st_ino == (spec.path / "bin/ls").stat().st_ino
    assert lines(shots) == []
    (spec.path / "etc/new").write_text("x")
    (spec.path / "etc/group").unlink()
    assert lines(shots) == ["C /etc", "D /etc/group", "A /etc/new"]
    shots.remove(ID)
    assert not spec.path.exists()


def test_odd_files_deep_trees_and_immutable_ones_are_removed(
    stack: tuple[Snapshotter, RootSpec, Path],
) -> None:
    shots, spec, target = stack
    script = "mkdir -m 0 sealed; mkfifo pipe; i=0; while [ $i -lt 700 ]; do "
    script += "mkdir -p deep/deep && cd deep; touch f; i=$((i+1)); done"
    run_in(spec, script, target)
    assert spec.upper is not None
    kept = spec.upper / "kept"
    kept.write_text("x")
    locked = subprocess.run(["chattr", "+i", kept], capture_output=True, check=False)
    shots.remove(ID)
    assert locked.returncode in (0, 1)
    assert not spec.upper.parent.exists()
    shots.remove(ID)  # again is no error


def test_removing_a_tree_deeper_than_a_path_can_be_named(tmp_path: Path) -> None:
    fd = open_directory(tmp_path)
    current = os.dup(fd)
    for _ in range(3000):
        os.mkdir("d" * 10, dir_fd=current)
        below = open_directory("d" * 10, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    remove_tree("d" * 10, dir_fd=fd)
    os.close(fd)
    assert os.listdir(tmp_path) == []


def test_deletions_in_an_archive_become_the_overlays_marks(
    store: ImageStore, busybox: str, tmp_path: Path
) -> None:
    import io

    from labkit.host.image.entry import Entry

    buffer = io.BytesIO()
    writer = TarWriter(buffer.write)
    writer.add(Entry("etc", "dir", 0o755))
    writer.add(Entry("etc/.wh.passwd"))
    writer.add(Entry("home", "dir", 0o755))
    writer.add(Entry("home/.wh..wh..opq"))
    writer.add(Entry("home/new"))
    writer.add(Entry(".wh.tmp"))
    writer.add(Entry("tmp", "dir", 0o755))
    writer.close()
    row = store.layers.unpack(io.BytesIO(buffer.getvalue()), None)
    layer = store.layers.path(row.diff_id)
    assert layer is not None
    for folder in ("upper", "work"):
        (tmp_path / folder).mkdir()
    base = store.layer_paths(store.get(busybox))[0]
    spec = RootSpec((layer, base), tmp_path / "upper", tmp_path / "work")
    listing = run_in(spec, "ls etc home; stat -c %a tmp", tmp_path / "merged")
    assert "passwd" not in listing
    assert "group" in listing
    assert "new" in listing
    assert listing.endswith("755\n")


_ON_OVERLAY = """
import io, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from trees import members
from labkit.host.image.catalog import Catalog
from labkit.host.image.commit import add_layer
from labkit.host.image.entry import Entry
from labkit.host.image.ingest import ingest
from labkit.host.image.reference import parse
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore

store = ImageStore(Path(sys.argv[1]))
catalog = Catalog()
base = store.get(catalog.build(catalog.resolve(parse("busybox")), store).image_id)
layer = ingest(store, io.BytesIO(members(
    Entry("etc/.wh.passwd"), Entry("home", "dir", 0o755), (Entry("home/new"), b"n"),
    Entry("var", "dir", 0o755), Entry("var/.wh..wh..opq"),
)))
image = store.get(add_layer(store, base, layer, defaults={}))
shots = Snapshotter(store, overlay=False)
spec = shots.prepare("c1", image)
before = [f"{change.letter} {change.path}" for change in shots.changes("c1")]
(spec.path / "etc/group").unlink()
(spec.path / "big").write_bytes(b"x" * 1000)
after = [f"{change.letter} {change.path}" for change in shots.changes("c1")]
print(json.dumps({
    "passwd": (spec.path / "etc/passwd").exists(), "home": os.listdir(spec.path / "home"),
    "var": os.listdir(spec.path / "var"), "before": before, "after": after,
    "size": shots.size("c1"), "driver": shots.graph_driver("c1")["Name"],
}))
shots.remove("c1")
store.close()
"""


def test_a_store_on_an_overlay_copies_its_layers(tmp_path: Path) -> None:
    """A lab inside a container: the kernel refuses overlays on overlays, and their marks."""
    import json
    import sys

    root = Path(__file__).parents[3]
    for folder in ("lower", "upper", "work", "merged"):
        (tmp_path / folder).mkdir()
    mount = 'mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" '
    mount += '"$1/merged" && shift && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-euc", mount, "sh", tmp_path, sys.executable, "-c", _ON_OVERLAY,
         tmp_path / "merged/docker", root / "tests/unit/image"],
        capture_output=True, text=True, cwd=root, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passwd"] is False
    assert found["home"] == ["new"]
    assert found["var"] == []
    assert found["before"] == []
    assert found["after"] == ["A /big", "C /etc", "D /etc/group"]
    assert (found["size"], found["driver"]) == (1000, "vfs")
