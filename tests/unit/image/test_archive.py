"""Images leaving and entering as one tar: save, load, import, export, commit."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_registry import digest_of
from trees import members

from labkit.base.errors import InvalidParameter, LabkitError, NotFound
from labkit.host.image.archive import load, save
from labkit.host.image.catalog import Catalog
from labkit.host.image.commit import commit, export, import_image
from labkit.host.image.entry import Entry
from labkit.host.image.reference import parse
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore

MakeImage = Callable[..., str]
BASE = members((Entry("base"), b"base"), Entry("dir", "dir", 0o755), (Entry("dir/old"), b"o"))
ID = "d" * 64


@pytest.fixture
def busybox(store: ImageStore) -> str:
    catalog = Catalog()
    entry = catalog.resolve(parse("busybox"))
    assert entry is not None
    image_id = catalog.build(entry, store).image_id
    store.set_tag(parse("busybox"), image_id)
    return image_id


def saved(store: ImageStore, *names: str) -> bytes:
    buffer = io.BytesIO()
    save(store, names, buffer.write)
    return buffer.getvalue()


def loaded(store: ImageStore, data: bytes) -> list[str]:
    return [line["stream"] for line in load(store, io.BytesIO(data))]


def test_a_saved_image_comes_back_with_id_tags_and_manifest(
    store: ImageStore, busybox: str, tmp_path: Path
) -> None:
    store.tag("busybox", "me/other:2")
    data = saved(store, "busybox", "me/other:2")
    assert saved(store, "busybox", "me/other:2") == data
    other = ImageStore(tmp_path / "other")
    try:
        lines = loaded(other, data)
        assert lines == ["Loaded image: busybox:latest\n", "Loaded image: me/other:2\n"]
        assert other.get("busybox").id == busybox
        assert other.inspect("busybox")["Descriptor"] == store.inspect("busybox")["Descriptor"]
        assert other.verify("busybox") == []
        assert saved(other, "busybox", "me/other:2") == data
        store.remove("busybox")
        store.remove("me/other:2")
        assert loaded(store, data) == lines
    finally:
        other.close()


def test_an_archive_is_an_oci_layout_too(store: ImageStore, busybox: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(saved(store, busybox))) as file:
        names = set(file.getnames())
        layout = file.extractfile("oci-layout")
        assert layout is not None
        assert json.load(layout) == {"imageLayoutVersion": "1.0.0"}
        without = io.BytesIO()
        with tarfile.open(fileobj=without, mode="w") as copy:
            for member in file.getmembers():
                if member.name != "manifest.json":
                    copy.addfile(member, file.extractfile(member) if member.isfile() else None)
    assert {"index.json", "manifest.json", f"blobs/sha256/{busybox[7:]}"} <= names
    assert loaded(store, without.getvalue()) == [f"Loaded image ID: {busybox}\n"]


def test_an_archive_of_an_old_client_is_read(store: ImageStore) -> None:
    """Before version 25: a folder per layer, plain tars, links between equal layers."""
    config = json.dumps(
        {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(BASE)]}}
    ).encode()
    manifest = json.dumps(
        [{"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["bbbb/layer.tar"]}]
    ).encode()
    data = members(
        Entry("aaaa", "dir", 0o755),
        (Entry("aaaa/layer.tar"), BASE),
        Entry("bbbb/layer.tar", "symlink", link="../aaaa/layer.tar"),
        (Entry("c.json"), config),
        (Entry("manifest.json"), manifest),
    )
    assert loaded(store, data) == ["Loaded image: old:1\n"]
    assert store.get("old:1").id == digest_of(config)
    assert store.get("old:1").size == 5


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"manifest.json": b"{}"},
        {"manifest.json": b"nonsense"},
        {"manifest.json": b'[{"Config": "../../../etc/passwd"}]'},
        {"manifest.json": b'[{"Config": "c", "Layers": ["l"]}]', "c": b"{}"},
        {"manifest.json": b'[{"Config": "c", "Layers": []}]', "c": b"nonsense"},
        {"index.json": b'{"manifests": [{"digest": "sha256:../../x"}]}'},
        {"index.json": b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'"}]}'},
    ],
)
def test_what_is_no_image_archive_is_refused(store: ImageStore, files: dict[str, bytes]) -> None:
    data = members(*((Entry(name), content) for name, content in files.items()))
    with pytest.raises(InvalidParameter):
        loaded(store, data)
    assert store.images() == []


def test_saving_an_unknown_image_writes_nothing(store: ImageStore) -> None:
    written: list[bytes] = []
    with pytest.raises(NotFound):
        save(store, ["none"], written.append)
    assert written == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_imported_tree_is_an_image_of_one_layer(
    store: ImageStore, pack: Callable[[bytes], bytes]
) -> None:
    import_image(store, io.BytesIO(pack(BASE)), reference=parse("tree:1"), message="hello")
    image = store.get("tree:1")
    assert image.diff_ids == (digest_of(BASE),)
    steps = store.history("tree:1")
    assert len(steps) == 1
    assert steps[0]["Comment"] == "hello"
    with pytest.raises(LabkitError):
        import_image(store, io.BytesIO(b"x" * 4096))


def test_a_commit_keeps_what_the_container_changed(
    store: ImageStore, make_image: MakeImage
) -> None:
    make_image(store, "app", layers=[BASE], Cmd=["sh"])
    for overlay in (True, False):
        shots = Snapshotter(store, overlay=overlay)
        image = store.get("app")
        shots.prepare(ID, image)
        (shots.upper(ID) / "new").write_text("n")
        name = f"made:{overlay}".lower()
        commit(
            store, shots, ID, image,
            defaults={"Cmd": ["new"]}, created_by="sh", comment="why", author="me",
            reference=parse(name),
        )  # fmt: skip
        made = store.get(name)
        assert made.parent == image.id
        assert made.defaults["Cmd"] == ["new"]
        assert made.diff_ids[:-1] == image.diff_ids
        assert (store.layer_paths(made)[-1] / "new").read_text() == "n"
        assert not (store.layer_paths(made)[-1] / "base").exists()
        found = store.inspect(name)
        assert (found["Author"], found["Comment"]) == ("me", "why")
        assert [step["Id"] for step in store.history(name)] == [made.id, image.id]
        buffer = io.BytesIO()
        export(shots, ID, buffer.write)
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as file:
            assert {"base", "dir/old", "new", ".dockerenv"} <= set(file.getnames())
        shots.remove(ID)
