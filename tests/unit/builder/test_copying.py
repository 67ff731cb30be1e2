"""COPY's and ADD's rules about names, over a base image that is a folder here."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.dockerignore import IgnoreRules
from labkit.base.errors import InvalidParameter, NotFound
from labkit.host.image.builder.copying import CopyOptions, LayerPlan, fingerprint
from labkit.host.image.builder.picking import pick, pick_with_folders, without
from labkit.host.image.builder.trees import SpooledTree, UnionTree


class Site:
    """A context, an image, and the layer that copies make."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "base"
        self.base.mkdir()
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.trees: list[SpooledTree] = []

    def context(self, *members: tuple[str, str | bytes], mode: int = 0o644) -> SpooledTree:
        """Names with content; `->x` is a link to x, `=x` a second name of x, a slash a folder."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:xz") as archive:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.mode = mode
                raw = content if isinstance(content, bytes) else content.encode()
                if raw.startswith(b"->"):
                    member.type, member.linkname = tarfile.SYMTYPE, raw[2:].decode()
                elif raw.startswith(b"="):
                    member.type, member.linkname = tarfile.LNKTYPE, raw[1:].decode()
                elif name.endswith("/"):
                    member.type = tarfile.DIRTYPE
                else:
                    member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
        data.seek(0)
        tree = SpooledTree.from_tar(data, self.scratch)
        self.trees.append(tree)
        return tree

    def copy(
        self, tree: SpooledTree, source: str, destination: str, **options: object
    ) -> dict[str, tuple[str, bytes]]:
        """Every name of the layer: its kind, and its content or link."""
        union = UnionTree([self.base])
        plan = LayerPlan(union, self.scratch, now_ns=5_000_000_000)
        try:
            for picked in pick(tree, source, word="COPY", where="context"):
                plan.copy(picked, destination, CopyOptions(**options))  # type: ignore[arg-type]
            out = io.BytesIO()
            plan.write(out.write)
        finally:
            plan.close()
            union.close()
        out.seek(0)
        found = {}
        with tarfile.open(fileobj=out) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                kind = {b"0": "file", b"5": "dir", b"2": "symlink", b"1": "link"}[member.type]
                text = content.read() if content else member.linkname.encode()
                found[member.name] = (kind, text)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    for tree in found.trees:
        tree.close()


def test_a_file_takes_the_destinations_name_or_goes_into_the_folder(site: Site) -> None:
    tree = site.context(("f", "x"))
    (site.base / "there").mkdir()
    assert site.copy(tree, "f", "/g") == {"g": ("file", b"x")}
    assert site.copy(tree, "f", "/new/")["new/f"] == ("file", b"x")
    assert site.copy(tree, "f", "/there")["there/f"] == ("file", b"x")


def test_a_folder_means_its_content(site: Site) -> None:
    tree = site.context(("d/a", "1"), ("d/e/b", "2"), ("other", "3"))
    assert set(site.copy(tree, "d", "/t")) == {"t", "t/a", "t/e", "t/e/b"}
    assert set(site.copy(tree, "d/.", "/")) == {"a", "e", "e/b"}


def test_wildcards_stop_at_slashes(site: Site) -> None:
    tree = site.context(("a.md", ""), ("b.md", ""), ("d/c.md", ""), ("x.txt", ""))
    assert set(site.copy(tree, "*.md", "/t/")) == {"t", "t/a.md", "t/b.md"}
    assert set(site.copy(tree, "?/*.md", "/t/")) == {"t", "t/c.md"}
    with pytest.raises(NotFound, match="no source files were specified"):
        site.copy(tree, "*.c", "/t/")


def test_nothing_outside_the_context_can_be_named(site: Site) -> None:
    tree = site.context(("up", "->../../etc/passwd"), ("abs", "->/etc/passwd"), ("f", "x"))
    for source in ("../f", "a/../../f", "/.."):
        with pytest.raises(InvalidParameter, match="forbidden path outside"):
            site.copy(tree, source, "/t")
    for source in ("up", "abs"):
        with pytest.raises(NotFound, match="file not found in context"):
            site.copy(tree, source, "/t")


def test_links_below_a_folder_stay_links_and_hard_links_become_files(site: Site) -> None:
    tree = site.context(("d/f", "x"), ("d/l", "->f"), ("d/h", "=d/f"))
    assert site.copy(tree, "d", "/t") == {
        "t": ("dir", b""),
        "t/f": ("file", b"x"),
        "t/l": ("symlink", b"f"),
        "t/h": ("file", b"x"),
    }
    assert site.copy(tree, "d/l", "/named") == {"named": ("file", b"x")}


def test_destinations_go_through_the_images_links_but_never_out(site: Site) -> None:
    (site.base / "data").mkdir()
    (site.base / "link").symlink_to("/data")
    (site.base / "out").symlink_to("../../../..")
    tree = site.context(("f", "x"))
    assert site.copy(tree, "f", "/link/f") == {"data": ("dir", b""), "data/f": ("file", b"x")}
    assert site.copy(tree, "f", "/out/f") == {"f": ("file", b"x")}


def test_folders_of_the_image_keep_their_mode(site: Site) -> None:
    (site.base / "tmp").mkdir()
    (site.base / "tmp").chmod(0o1777)
    union = UnionTree([site.base])
    plan = LayerPlan(union, site.scratch, now_ns=0)
    (picked,) = pick(site.context(("f", "x")), "f", word="COPY", where="")
    plan.copy(picked, "/tmp/new/f", CopyOptions(uid=7, mode=0o600))
    out = io.BytesIO()
    plan.write(out.write)
    union.close()
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        shown = {member.name: (member.mode, member.uid) for member in archive}
    owner = os.stat(site.base / "tmp").st_uid
    assert shown == {"tmp": (0o1777, owner), "tmp/new": (0o755, 7), "tmp/new/f": (0o600, 7)}


def test_add_unpacks_archives_with_their_links_and_nothing_else(site: Site) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:bz2") as archive:
        member = tarfile.TarInfo("./z/.hidden")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"h"))
        member = tarfile.TarInfo("./a")
        member.type, member.linkname = tarfile.LNKTYPE, "./z/.hidden"
        archive.addfile(member)
    tree = site.context(("t.tbz", data.getvalue()), ("plain", "x" * 600))
    assert site.copy(tree, "t.tbz", "/t", unpack=True) == {
        "t": ("dir", b""),
        "t/z": ("dir", b""),
        "t/z/.hidden": ("file", b"h"),
        "t/a": ("link", b"t/z/.hidden"),
    }
    assert site.copy(tree, "plain", "/t", unpack=True)["t"][0] == "file"


def test_names_that_mean_deletions_are_refused(site: Site) -> None:
    with pytest.raises(InvalidParameter, match="mean deletions"):
        site.copy(site.context((".wh.etc", "")), ".", "/")


def test_hashes_see_names_modes_and_contents_but_no_times(site: Site) -> None:
    def of(*members: tuple[str, str], mode: int = 0o644) -> str:
        tree = site.context(*members, mode=mode)
        return fingerprint(pick(tree, "d", word="COPY", where=""))

    base = of(("d/f", "1"))
    assert base.startswith("dir:")
    assert of(("d/f", "1")) == base
    others = {of(("d/f", "2")), of(("d/g", "1")), of(("d/f", "1"), mode=0o600), of(("d/f", "->1"))}
    assert len({*others, base}) == 5


def test_dockerignore_keeps_the_folders_of_what_it_takes_back(site: Site) -> None:
    tree = site.context(("d/a", ""), ("d/b", ""), ("e/c", ""))
    tree.leave_out(IgnoreRules("*\n!d/b\n"))
    assert tree.paths() == ["d", "d/b"]


def test_archives_that_lead_out_are_refused(site: Site) -> None:
    with pytest.raises(InvalidParameter, match="leads out"):
        site.context(("../f", "x"))


def test_parents_keep_the_folders_of_a_source(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        tree = site.context(("x/a.txt", "1"), ("x/deep/b.txt", "2"), ("y/c.txt", "3"))
        found = {}
        for source in ("x/a.txt", "./y/./c.txt", "x/deep", "**/b.txt"):
            names = pick_with_folders(tree, source, word="COPY", where="context")
            found[source] = [[below for below, _ in item.folders] for item in names]
        assert found == {
            "x/a.txt": [["x"]],
            "./y/./c.txt": [[]],
            "x/deep": [["x", "x/deep"]],
            "**/b.txt": [["x", "x/deep"]],
        }
        union = UnionTree([site.base])
        plan = LayerPlan(union, site.scratch, now_ns=5_000_000_000)
        for item in pick_with_folders(tree, "x/*/*.txt", word="COPY", where="context"):
            plan.copy(item, "/to", CopyOptions())
        out = io.BytesIO()
        plan.write(out.write)
        plan.close()
        union.close()
        out.seek(0)
        with tarfile.open(fileobj=out) as archive:
            assert archive.getnames() == ["to", "to/x", "to/x/deep", "to/x/deep/b.txt"]
    finally:
        for tree in site.trees:
            tree.close()


def test_excluded_names_are_neither_hashed_nor_copied(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        tree = site.context(("d/a.txt", "1"), ("d/b.md", "2"), ("d/e/c.md", "3"), ("f.md", "4"))
        other = site.context(("d/a.txt", "1"), ("d/b.md", "changed"), ("d/e/c.md", "3"))
        chosen = without(pick(tree, "d", word="COPY", where="context"), ("*.md",))
        again = without(pick(other, "d", word="COPY", where="context"), ("*.md",))
        assert fingerprint(chosen) == fingerprint(again)
        children = [child.path for child in chosen[0].tree.children(chosen[0].node)]
        assert children == ["d/a.txt", "d/e"]
        assert without(pick(tree, "f.md", word="COPY", where="context"), ("*.md",)) == []
        deep = without(pick(tree, "d", word="COPY", where="context"), ("**/*.md",))
        inner = deep[0].tree.find("d/e")
        assert inner is not None
        assert list(deep[0].tree.children(inner)) == []
    finally:
        for tree in site.trees:
            tree.close()
