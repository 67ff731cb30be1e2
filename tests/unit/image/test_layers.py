"""Layers as archives and as trees: nothing is lost, and the same tree is the same bytes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from trees import Tree, apply, archive, describe, make, members, opened

from labkit.base.errors import InvalidParameter
from labkit.host.image.difftree import diff_trees, write_tree
from labkit.host.image.entry import Entry
from labkit.host.image.layers import decompressor
from labkit.host.image.tarread import TarReader

_NAMES = ["a", "b", "c", "d.txt", "é", "x" * 120]
_slow = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A random small tree: folders, files, links, hard links, fifos."""
    tree: Tree = {}
    folders = [""]
    for _ in range(draw(st.integers(0, 9))):
        parent = draw(st.sampled_from(folders))
        path = f"{parent}/{draw(st.sampled_from(_NAMES))}".lstrip("/")
        if path in tree:
            continue
        kind = draw(st.sampled_from(["dir", "dir", "file", "file", "symlink", "fifo", "link"]))
        files = [name for name, what in tree.items() if what[0] == "file"]
        if kind == "dir":
            tree[path] = ("dir", draw(st.sampled_from([0o755, 0o700, 0o1777])))
            folders.append(path)
        elif kind == "file":
            content = draw(st.binary(max_size=3) | st.just(b"z" * 700))
            tree[path] = ("file", content, draw(st.sampled_from([0o644, 0o4755, 0o600])))
        elif kind == "symlink":
            tree[path] = ("symlink", draw(st.sampled_from(["a", "/etc", "../..", "nowhere"])))
        elif kind == "fifo":
            tree[path] = ("fifo",)
        elif files:
            tree[path] = ("link", draw(st.sampled_from(files)))
    return tree


@_slow
@given(trees())
def test_a_tree_survives_the_way_through_an_archive(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        one, other = Path(scratch, "one"), Path(scratch, "other")
        make(one, tree)
        with opened(one) as fd:
            first = archive(lambda writer: write_tree(fd, writer))
        apply(first, other)
        assert describe(other) == describe(one)
        with opened(other) as fd:
            assert archive(lambda writer: write_tree(fd, writer)) == first


@_slow
@given(trees(), trees())
def test_applying_a_difference_gives_the_second_tree(before: Tree, after: Tree) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        a, b = Path(scratch, "a"), Path(scratch, "b")
        make(a, before)
        make(b, after, mtime_ns=1_700_000_000_000_000_001)
        with opened(a) as lower, opened(b) as upper:
            layer = archive(lambda writer: diff_trees(lower, upper, writer))
        apply(layer, a)
        assert describe(a) == describe(b)


@_slow
@given(trees())
def test_a_tree_does_not_differ_from_itself(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        one, other = Path(scratch, "one"), Path(scratch, "other")
        make(one, tree)
        make(other, tree)
        with opened(one) as lower, opened(other) as upper:
            assert not archive(lambda writer: diff_trees(lower, upper, writer)).strip(b"\0")


@_slow
@given(trees())
def test_python_reads_what_we_write_and_we_read_what_python_writes(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        one, other = Path(scratch, "one"), Path(scratch, "other")
        make(one, tree, mtime_ns=1_600_000_000_500_000_000)
        with opened(one) as fd:
            ours = archive(lambda writer: write_tree(fd, writer))
        with tarfile.open(fileobj=io.BytesIO(ours)) as file:
            assert sorted(file.getnames()) == sorted(describe(one))
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            theirs = io.BytesIO()
            with tarfile.open(fileobj=theirs, mode="w", format=form) as file:
                file.add(one, arcname=".")
            target = Path(scratch, f"other{form}")
            apply(theirs.getvalue(), target)
            assert {path: what[0] for path, what in describe(target).items()} == {
                path: what[0] for path, what in describe(one).items()
            }
        assert not other.exists()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_an_archive_or_one_clear_error(data: bytes) -> None:
    with contextlib.suppress(InvalidParameter):
        for _ in TarReader(io.BytesIO(data)):
            pass


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_archive_harms_nothing(data: st.DataObject) -> None:
    sound = bytearray(
        members(
            Entry("d", "dir", 0o755),
            (Entry("d/f", mtime_ns=5, xattrs={"user.x": b"1"}), b"content"),
            Entry("n" * 150, "symlink", link="l" * 150),
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(sound) - 1))
        sound[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as scratch:
        before = sorted(os.listdir(scratch))
        with contextlib.suppress(InvalidParameter):
            apply(bytes(sound), Path(scratch, "root"))
        assert sorted(os.listdir(scratch)) == sorted([*before, "root"])


def test_times_are_kept_to_the_nanosecond(tmp_path: Path) -> None:
    apply(members((Entry("f", mtime_ns=1_234_567_890_987_654_321), b"x")), tmp_path / "r")
    assert (tmp_path / "r/f").stat().st_mtime_ns == 1_234_567_890_987_654_321


def test_holes_stay_holes_and_read_as_zeros(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "big", "wb") as file:
        file.write(b"head")
        file.seek(20 << 20)
        file.write(b"tail")
    plain = io.BytesIO()
    import subprocess

    tar = subprocess.run(
        ["tar", "--sparse", "--format=pax", "-C", source, "-cf", "-", "big"],
        capture_output=True,
        check=True,
    )
    gnu = subprocess.run(
        ["tar", "--sparse", "--format=gnu", "-C", source, "-cf", "-", "big"],
        capture_output=True,
        check=True,
    )
    with opened(source) as fd:
        plain.write(archive(lambda writer: write_tree(fd, writer)))
    assert len(tar.stdout) < 1 << 20 < len(plain.getvalue())
    for number, data in enumerate((tar.stdout, gnu.stdout, plain.getvalue())):
        root = tmp_path / str(number)
        apply(data, root)
        assert (root / "big").read_bytes() == (source / "big").read_bytes()
    assert (tmp_path / "0/big").stat().st_blocks < 1000


def test_attributes_travel_and_the_stacks_own_marks_do_not(tmp_path: Path) -> None:
    entry = Entry("f", xattrs={"user.kept": b"yes", "user.overlay.opaque": b"y"})
    apply(members((entry, b"")), tmp_path / "r")
    assert os.listxattr(tmp_path / "r/f") == ["user.kept"]


def test_a_file_larger_than_octal_can_say_is_announced_in_pax() -> None:
    from labkit.host.image.tarwrite import header_bytes

    header = header_bytes(Entry("f", size=9 << 30))
    info = tarfile.TarFile(fileobj=io.BytesIO(header + bytes(1024)), mode="r").next()
    assert info is not None
    assert info.size == 9 << 30


@pytest.mark.parametrize("deletions", ["merge"])
def test_a_deletion_spares_what_its_own_layer_brings(tmp_path: Path, deletions: str) -> None:
    root = tmp_path / "r"
    make(root, {"d": ("dir", 0o755), "d/old": ("file", b"1", 0o644)})
    layer = members(
        Entry("d", "dir", 0o755),
        (Entry("d/new"), b"2"),
        Entry("d/.wh..wh..opq"),
        Entry("d/.wh.new"),
    )
    apply(layer, root)
    assert sorted(os.listdir(root / "d")) == ["new"]


def test_a_damaged_zstd_stream_is_the_one_clear_error() -> None:
    zstandard = pytest.importorskip("zstandard")
    whole = zstandard.ZstdCompressor().compress(os.urandom(5000))
    for at in range(4, len(whole), 97):
        damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        source = decompressor(io.BytesIO(damaged), damaged[:4])
        with contextlib.suppress(InvalidParameter):
            while source.read(1 << 12):
                pass
