"""The static twins: well-formed drawings and texts that say the same as the picture."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from view_examples import HOST, LIFECYCLE, OWN, namespaces_example, timeline_steps

from labkit.base.errors import NotFound
from labkit.notebook import widgets
from labkit.notebook.magics.explain import Recording, timeline_state
from labkit.notebook.widgets import lifecycle_picture, namespaces_picture
from labkit.notebook.widgets.lifecycle_picture import lifecycle_state
from labkit.notebook.widgets.namespaces_picture import namespaces_state
from labkit.notebook.widgets.svg import fit, text_on


def words_of(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    return " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text"))


def group(state: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in state["groups"] if one["name"] == name)


def test_a_tile_says_whose_the_namespace_is() -> None:
    state = namespaces_state(namespaces_example())
    assert [one["name"] for one in state["groups"]] == ["mine", "sidecar", "web"]
    tiles = {tile["kind"]: tile for tile in group(state, "mine")["tiles"]}
    assert tiles["uts"]["state"] == "own"
    assert tiles["net"]["state"] == "host"
    assert tiles["net"]["inode"] == HOST["net"]
    tiles = {tile["kind"]: tile for tile in group(state, "web")["tiles"]}
    assert tiles["net"]["state"] == "shared"
    assert tiles["net"]["with"] == ["sidecar"]
    assert tiles["net"]["word"] == "sidecar’s"
    assert tiles["net"]["colour"] == group(state, "sidecar")["colour"]
    assert group(state, "web")["own"] == 6


def test_a_process_has_its_number_outside_and_inside() -> None:
    state = namespaces_state(namespaces_example())
    processes = group(state, "web")["processes"]
    assert [(p["pid"], p["inside"], p["depth"]) for p in processes] == [(905, 1, 0), (911, 7, 1)]
    helper, shell = group(state, "mine")["processes"]
    assert helper["differs"] == ["pid", "uts"]
    assert shell["differs"] == []
    assert [p["pid"] for p in state["host"]["processes"]] == [1, 812, 815, 902, 930]


def test_unsharing_turns_one_tile_over() -> None:
    data = namespaces_example()
    before = group(namespaces_state(data), "mine")
    for process in data["processes"]:
        if process["pid"] == 841:
            process["namespaces"]["net"] = 4026539999
    after = group(namespaces_state(data), "mine")
    changed = [
        b["kind"]
        for a, b in zip(before["tiles"], after["tiles"], strict=True)
        if a["inode"] != b["inode"]
    ]
    assert changed == ["net"]
    assert after["own"] == before["own"] + 1


def test_a_group_keeps_its_colour_while_others_come_and_go() -> None:
    memory: dict[str, str] = {}
    data = namespaces_example()
    first = namespaces_state(data, memory)
    without_box = copy.deepcopy(data)
    without_box["processes"] = [p for p in data["processes"] if p["owner"]["kind"] != "box"]
    second = namespaces_state(without_box, memory)
    assert group(first, "web")["colour"] == group(second, "web")["colour"]
    assert len({one["colour"] for one in first["groups"]}) == 3


def test_a_process_without_readable_namespaces_is_still_drawn() -> None:
    data = namespaces_example()
    for process in data["processes"]:
        process["namespaces"] = {}
    state = namespaces_state(data)
    assert all(one["tiles"] == [] for one in state["groups"])
    words_of(namespaces_picture.draw(state))
    namespaces_picture.describe(state)


def test_the_namespaces_drawing_and_text_name_everything() -> None:
    state = namespaces_state(namespaces_example())
    drawn, said = words_of(namespaces_picture.draw(state)), namespaces_picture.describe(state)
    for word in ("web", "sidecar", "mine", "905", "911", str(OWN["pid"]), str(HOST["user"]), "163"):
        assert word in drawn
        assert word in said
    assert "net 4026532504 shared with sidecar" in said
    assert "1 box and 2 containers" in said


def test_nothing_running_is_a_sentence() -> None:
    data = {"host": {"name": "default", "namespaces": HOST}, "processes": [], "others": 3}
    state = namespaces_state(data)
    assert "No container and no box" in words_of(namespaces_picture.draw(state))
    assert "no container and no box" in namespaces_picture.describe(state)


def test_markup_in_a_command_cannot_leave_its_text() -> None:
    data = namespaces_example()
    data["processes"][5]["args"] = ["sh", "-c", "</text><script>alert(1)</script>&"]
    svg = namespaces_picture.draw(namespaces_state(data))
    assert "<script>" not in svg
    words_of(svg)


def test_every_row_of_the_table_is_an_arrow_in_the_lifecycle() -> None:
    state = lifecycle_state(LIFECYCLE)
    drawn = {
        (arrow["from"] or None, arrow["to"], action)
        for arrow in state["arrows"]
        for action in arrow["actions"]
    }
    assert drawn == {(t["from"], t["to"], t["action"]) for t in LIFECYCLE["transitions"]}
    words = words_of(lifecycle_picture.draw(state))
    for name in (*LIFECYCLE["states"], "quotes", "bold_hopper", "die-restart"):
        assert name in words


def test_the_engines_own_table_fits_the_picture() -> None:
    states = pytest.importorskip("labkit.host.engine.states")
    table = [{"from": t.source, "to": t.target, "action": t.action} for t in states.TRANSITIONS]
    state = lifecycle_state({"states": list(states.STATES), "transitions": table, "containers": []})
    known = lifecycle_picture._ARROWS
    assert {(a["from"] or None, a["to"]) for a in state["arrows"]} <= set(known)


def test_a_state_the_table_gains_later_is_drawn_too() -> None:
    data = copy.deepcopy(LIFECYCLE)
    data["states"].append("resting")
    data["transitions"].append({"from": "running", "to": "resting", "action": "rest"})
    assert "resting" in words_of(lifecycle_picture.draw(lifecycle_state(data)))


def test_history_says_how_long_each_state_lasted() -> None:
    state = lifecycle_state(LIFECYCLE)
    steps = state["containers"][1]["steps"]
    assert [step["stayed"] for step in steps] == ["350ms", "12s", "7.6s", "10.1s", ""]
    assert "die → exited, stayed 7.6s" in lifecycle_picture.describe(state)


def test_the_timeline_drawing_and_text_hold_every_step() -> None:
    from labkit.notebook.widgets import timeline_picture as timeline

    recorded = Recording(timeline={"steps": timeline_steps()})
    state = timeline.prepare(timeline_state("docker run x", recorded))
    drawn = words_of(timeline.draw(state))
    said = timeline.describe(state)
    for step in timeline_steps():
        assert step["name"] in said
        assert step["name"] in drawn
    assert "PID 1." in said
    assert timeline.took(1_234_567) == "1.23ms"
    assert timeline.took(0) == "0ns"
    assert timeline.took(999) == "999ns"


def test_views_are_named_and_unknown_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def json(self, method: str, path: str) -> Any:
            return {
                "/v1/views/namespaces": namespaces_example(),
                "/v1/views/lifecycle": LIFECYCLE,
                "/v1/status": {"docker_socket": "/nowhere/docker.sock"},
            }[path]

    event = {"Type": "container", "Action": "start", "timeNano": 1, "Actor": {"ID": "f" * 64}}
    monkeypatch.setattr(
        "labkit.notebook.client.Client.stream", lambda *_, **__: iter([{**event, "time": 1}])
    )

    for name in ("namespaces", "lifecycle", "events"):
        svg, text = widgets.render_static(name, Client())  # type: ignore[arg-type]
        words_of(svg)
        assert text
    with pytest.raises(NotFound, match="no view named"):
        widgets.render_static("nothing", Client())  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no view named"):
        widgets.make_view("nothing", Client())  # type: ignore[arg-type]


def test_text_fits_and_reads() -> None:
    assert fit("short", 200) == "short"
    assert fit("a very long command line", 60).endswith("…")
    assert text_on("#0072B2") == "#ffffff"
    assert text_on("#F0E442") == "#111111"
