"""The data of the layers view: where a file comes from, what is hidden, what differs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.errors import NotFound
from labkit.host.image.beneath import make_whiteout
from labkit.host.image.entry import Entry
from labkit.host.image.layernames import set_opaque
from labkit.host.image.layertree import Source, folder_entries
from labkit.host.image.layerview import LayerViews, instruction
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore
from labkit.host.image.union import Union
from tests.unit.image.conftest import MakeImage
from tests.unit.image.trees import members, opened

ID = "c" * 64


def file(name: str, data: bytes) -> tuple[Entry, bytes]:
    return Entry(name=name, kind="file", mode=0o644), data


def folder(name: str) -> Entry:
    return Entry(name=name, kind="dir", mode=0o755)


BASE = members(folder("etc"), file("etc/motd", b"hello"), file("key", b"x" * 1000))
ADD = members(folder("app"), file("app/big", b"b" * 5000), file("app/word", b"one"))
CUT = members(file(".wh.key", b""), folder("app"), file("app/.wh.big", b""), file("app/word", b"2"))


@pytest.fixture
def views(store: ImageStore, make_image: MakeImage) -> LayerViews:
    make_image(store, "shelf:1", layers=[BASE, ADD, CUT])
    make_image(store, "shelf:2", layers=[BASE, ADD])
    make_image(store, "alone:1", layers=[ADD])
    return LayerViews(store, Snapshotter(store, overlay=False))


def entries(found: dict[str, Any], path: str) -> dict[str, Any]:
    return {entry["name"]: entry for entry in found["folders"][path]["entries"]}


def test_each_file_names_its_layer_and_what_lies_hidden_below(views: LayerViews) -> None:
    found = views.of_image("shelf:1", ["/", "/app"])
    top, app = entries(found, "/"), entries(found, "/app")
    assert (top["etc"]["layer"], top["app"]["layers"]) == (1, [3, 2])
    assert (top["key"]["layer"], top["key"]["deleted_by"]) == (0, 3)
    assert top["key"]["hidden"] == [
        {"layer": 1, "kind": "file", "bytes": 1000, "by": 3, "how": "deleted"}
    ]
    assert app["word"]["layer"] == 3
    assert app["word"]["hidden"][0]["how"] == "replaced"
    assert app["big"]["deleted_by"] == 3


def test_hidden_bytes_are_counted_once_at_the_layer_that_hides_them(views: LayerViews) -> None:
    layers = views.of_image("shelf:1")["layers"]
    assert [layer["wasted"] for layer in layers] == [0, 0, 6003]
    assert {(deed["path"], deed["how"]) for deed in layers[2]["deeds"]} == {
        ("/key", "deleted"),
        ("/app/big", "deleted"),
        ("/app/word", "replaced"),
    }
    assert layers[2]["diff_id"].startswith("sha256:")
    assert layers[0]["chain_id"] == layers[0]["diff_id"] != layers[1]["chain_id"]


def test_two_images_share_their_lowest_layers_and_differ_in_named_files(views: LayerViews) -> None:
    found = views.compare("shelf:2", "shelf:1")
    assert found["shared"] == 2
    rows = {one["path"]: one["how"] for one in found["differences"]["files"]}
    assert rows == {"/key": "removed", "/app/big": "removed", "/app/word": "changed"}
    nothing = views.compare("shelf:1", "shelf:1")
    assert nothing["shared"] == 3
    assert nothing["differences"]["files"] == []
    assert views.compare("shelf:1", "alone:1")["shared"] == 0


def test_a_container_on_a_whole_copy_shows_what_it_wrote(
    views: LayerViews, store: ImageStore
) -> None:
    shots = Snapshotter(store, overlay=False)
    image = store.get("shelf:1")
    root = shots.prepare(ID, image).path
    assert root is not None
    (root / "app/word").write_text("mine")
    (root / "fresh").write_text("new")
    (root / "etc/motd").unlink()
    found = views.of_container(ID, "web", image.id, ["/", "/etc", "/app"])
    own = found["layers"][-1]
    assert own["kind"] == "writable"
    deeds = {(deed["path"], deed["how"]) for deed in own["deeds"]}
    assert {("/app/word", "replaced"), ("/fresh", "added"), ("/etc/motd", "deleted")} <= deeds
    assert entries(found, "/app")["word"]["layer"] == own["number"]
    assert entries(found, "/etc")["motd"]["deleted_by"] == own["number"]
    assert entries(found, "/")["fresh"]["layer"] == own["number"]
    shots.remove(ID)
    store.layers.drain()


def test_a_folder_that_no_layer_has_is_told_in_the_answer(views: LayerViews) -> None:
    found = views.of_image("shelf:1", ["/nowhere", "/etc/motd"])
    assert found["folders"]["/nowhere"]["entries"] == []
    assert "no folder /nowhere" in found["folders"]["/nowhere"]["error"]
    with pytest.raises(NotFound, match="No such image"):
        views.of_image("nothing")


@pytest.mark.parametrize(
    ("created_by", "written"),
    [
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c apk add curl", "RUN apk add curl"),
        ("COPY a b # buildkit", "COPY a b"),
        ("", ""),
    ],
)
def test_history_reads_as_it_was_written_in_the_dockerfile(created_by: str, written: str) -> None:
    assert instruction(created_by) == written


NAMES = ("a", "b")
NODE: Any = st.deferred(
    lambda: (
        st.sampled_from(["file", "gone"])
        | st.tuples(st.booleans(), st.dictionaries(st.sampled_from(NAMES), NODE, max_size=2))
    )
)


def build(root: Path, tree: dict[str, Any]) -> None:
    for name, node in tree.items():
        if node == "file":
            (root / name).write_text(str(root))
        elif node == "gone":
            with opened(root) as fd:
                make_whiteout(fd, name)
        else:
            (root / name).mkdir()
            if node[0]:
                with opened(root / name) as fd:
                    set_opaque(fd)
            build(root / name, node[1])


@settings(max_examples=120)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), NODE, max_size=2), min_size=1, max_size=4))
def test_what_is_seen_is_what_the_union_shows(stack: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        layers = []
        for number, tree in enumerate(stack):
            path = Path(scratch, str(number))
            path.mkdir()
            build(path, tree)
            layers.append(path)
        sources = [Source(len(layers) - n, path) for n, path in enumerate(layers)]
        with Union(layers) as union:
            pending = [""]
            while pending:
                where = pending.pop()
                found = folder_entries(sources, where)["entries"]
                here = union.lookup(where, follow=False)
                seen = [one for one in found if one["layer"]]
                assert {one["name"] for one in seen} == set(union.names(here))
                for one in seen:
                    child = union.child(here, one["name"])
                    assert child is not None
                    assert one["layer"] == sources[child.layer].number
                    assert (one["kind"] == "folder") == child.is_folder
                    if child.is_folder:
                        pending.append(os.path.join(where, one["name"]))
