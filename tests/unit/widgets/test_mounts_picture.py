"""The mounts view: places that stay, containers, and the lines between them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from labkit.notebook.widgets.mounts_picture import describe, draw, mounts_state

DATA: dict[str, Any] = {
    "volumes": [
        {"name": "orders", "anonymous": False, "bytes": 2_500_000, "users": ["shop"]},
        {"name": "f" * 64, "anonymous": True, "bytes": 0, "users": []},
    ],
    "containers": [
        {
            "id": "1" * 64,
            "name": "shop",
            "state": "running",
            "image": "busybox",
            "read_only": False,
            "mounts": [
                {
                    "kind": "volume",
                    "name": "orders",
                    "source": "/var/lib/docker/volumes/orders/_data",
                    "target": "/data",
                    "writable": True,
                },
                {
                    "kind": "bind",
                    "name": "",
                    "source": "/srv/<site>",
                    "target": "/www",
                    "writable": False,
                },
                {"kind": "tmpfs", "name": "", "source": "", "target": "/run", "writable": True},
            ],
        }
    ],
}


def test_each_folder_leads_to_its_place() -> None:
    state = mounts_state(DATA)
    folders = {one["target"]: one for one in state["containers"][0]["folders"]}
    assert state["places"][folders["/data"]["place"]]["detail"] == "volume, 2.5 MB"
    assert state["places"][folders["/www"]["place"]]["name"] == "/srv/<site>"
    assert state["places"][folders["/run"]["place"]]["detail"] == "memory"


def test_the_text_names_what_is_read_only_and_what_nobody_uses() -> None:
    text = describe(mounts_state(DATA))
    assert "/www  <-  /srv/<site> (folder of the host), read only" in text
    assert "ffffffffffff (anonymous volume, 0 B, used by nobody)" in text


def test_the_drawing_is_well_formed_and_joins_what_belongs_together() -> None:
    svg = draw(mounts_state(DATA))
    root = ElementTree.fromstring(svg)
    lines = [one for one in root.iter() if one.get("data-from")]
    assert {one.get("data-to") for one in lines} == {"container:shop"}
    assert len(lines) == 3
    assert len([one for one in lines if one.get("stroke-dasharray")]) == 1


def test_an_empty_lab_says_so() -> None:
    state = mounts_state({"volumes": [], "containers": []})
    assert describe(state) == "Mounts: no container and no volume."
    ElementTree.fromstring(draw(state))
