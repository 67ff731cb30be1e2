"""The layers view: its rows, its words, its drawing."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from labkit.notebook.widgets.layers_picture import describe, draw, query_of
from labkit.notebook.widgets.layers_state import folders_worth_opening, layers_state


def _layer(number: int, kind: str, made: str, deeds: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {how: sum(d["how"] == how for d in deeds) for how in ("added", "replaced", "deleted")}
    wasted = sum(one["bytes"] for deed in deeds for one in deed["hides"])
    return {
        "number": number,
        "kind": kind,
        "instruction": made,
        "bytes": 1_000_000 // number,
        "diff_id": "sha256:" + str(number) * 64 if kind == "image" else "",
        "chain_id": "sha256:" + "c" * 64 if kind == "image" else "",
        "blobs": [],
        **counts,
        "files": len(deeds),
        "wasted": wasted,
        "complete": True,
        "deeds": deeds,
    }


def _deed(path: str, how: str, size: int, **hides: int) -> dict[str, Any]:
    below = [{"layer": int(key[1:]), "bytes": count} for key, count in hides.items()]
    return {"path": path, "kind": "file", "bytes": size, "how": how, "hides": below}


def _entry(name: str, layer: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "file",
        "bytes": 7,
        "names": 1,
        "mode": "-rw-r--r--",
        "uid": 0,
        "gid": 0,
        "link": "",
        "layer": layer,
        "layers": [layer] if layer else [],
        "deleted_by": 0,
        "hidden": [],
        **more,
    }


KEY = {"layer": 1, "kind": "file", "bytes": 7, "by": 2, "how": "deleted"}
DATA: dict[str, Any] = {
    "kind": "container",
    "name": "<web>",
    "image": {"id": "sha256:1", "tags": [], "digests": [], "bytes": 2_000_000, "stand_in": True},
    "layers": [
        _layer(1, "image", f"COPY file:{'ab' * 32} in /", [_deed("/a/key", "added", 7)]),
        _layer(2, "image", "RUN rm /a/key", [_deed("/a/key", "deleted", 0, l1=7)]),
        _layer(3, "writable", "written", [_deed("/a/word", "replaced", 9, l1=3)]),
    ],
    "steps": [{"instruction": 'CMD ["sh"]', "comment": "", "layer": 0}],
    "folders": {
        "/": {
            "path": "/",
            "entries": [_entry("a", 3, kind="folder", layers=[3, 1]), _entry("plain", 1)],
            "left_out": 0,
        },
        "/a": {
            "path": "/a",
            "entries": [_entry("key", 0, deleted_by=2, hidden=[KEY]), _entry("word", 3)],
            "left_out": 4,
        },
    },
    "other": {
        "name": "shelf:2",
        "layers": [_layer(1, "image", "COPY", [])],
        "shared": 1,
        "differences": {
            "added": 0,
            "removed": 0,
            "changed": 1,
            "touched": 0,
            "complete": True,
            "files": [
                {
                    "path": "/a/word",
                    "how": "changed",
                    "kind": "file",
                    "before": {"layer": 1, "bytes": 3},
                    "after": {"layer": 1, "bytes": 4},
                }
            ],
        },
    },
}


def test_opened_folders_hold_what_happened_above_the_lowest_layer() -> None:
    assert folders_worth_opening(DATA) == ["/", "/a"]


def test_rows_follow_their_folder_and_say_what_became_of_each_name() -> None:
    rows = layers_state(DATA)["rows"]
    assert [row["path"] for row in rows] == ["/a", "/a/key", "/a/word", "/a/…", "/plain"]
    assert rows[1]["gone"]
    assert rows[1]["words"] == "deleted by layer 2, still in layer 1"
    assert rows[0]["words"] == "merged from layers 1, 3"


def test_only_what_is_new_in_the_containers_own_layer_lights_up() -> None:
    assert layers_state(DATA)["lit"] == ["/a/word"]
    assert layers_state(DATA, seen=["/a/word"])["lit"] == []


def test_the_text_says_who_wastes_and_what_was_copied_up() -> None:
    text = describe(layers_state(DATA))
    assert "7B wasted" in text
    assert "~ /a/word  9B, copied up from layer 1" in text
    assert "COPY file:abababababab in /" in text
    assert "the lowest 1 layer is the same; files: 1 changed" in text


def test_the_layers_drawing_is_well_formed_and_escapes_names() -> None:
    state = layers_state(DATA)
    root = ElementTree.fromstring(draw(state))
    words = "".join(root.itertext())
    assert "Layers of container <web>" in words
    assert "deleted by layer 2, still in layer 1" in words


def test_what_the_user_typed_becomes_the_query() -> None:
    assert query_of(["a", "b"], ["/"]) == {"of": "a", "path": ["/"], "other": "b"}
