"""What holds a container, in the words and shapes of the namespaces view."""

from __future__ import annotations

from xml.etree import ElementTree

from view_examples import confinement_example, namespaces_example

from labkit.notebook.widgets import namespaces_picture
from labkit.notebook.widgets.confinement_part import confinement_lines, confinement_state
from labkit.notebook.widgets.namespaces_picture import namespaces_state

CATALOGUE = namespaces_example()["capabilities"]


def test_levels_are_told_against_their_limits() -> None:
    state = confinement_state(confinement_example(), CATALOGUE)
    assert state is not None
    gauges = {one["name"]: one for one in state["gauges"]}
    assert gauges["memory"]["text"] == "16 MiB of 64 MiB"
    assert gauges["memory"]["share"] == 0.25
    assert gauges["memory"]["note"] == "killed 1 time at the limit"
    assert gauges["processes"]["text"] == "2, no limit"
    assert gauges["processors"]["note"] == "held back in 4 of 10 periods"


def test_a_capability_is_held_given_up_or_was_never_there() -> None:
    state = confinement_state(confinement_example(), CATALOGUE)
    assert state is not None
    assert {one["name"]: one["state"] for one in state["capabilities"]} == {
        "CHOWN": "held",
        "KILL": "held",
        "NET_RAW": "given up",
        "SYS_ADMIN": "never",
    }


def test_ids_are_told_inside_and_outside() -> None:
    data = confinement_example()
    data["uid"] = 231072
    data["uid_map"] = [{"inside": 0, "outside": 231072, "count": 65536}]
    state = confinement_state(data, CATALOGUE)
    assert state is not None
    assert state["identity"] == "user 0 inside is user 231072 outside"


def test_a_machine_that_counts_nothing_shows_no_gauge() -> None:
    data = confinement_example()
    data["cgroup"] = {"version": 0, "controllers": []}
    state = confinement_state(data, CATALOGUE)
    assert state is not None
    assert state["gauges"] == []


def test_the_text_twin_says_everything_the_drawing_shows() -> None:
    lines = "\n".join(confinement_lines(confinement_state(confinement_example(), CATALOGUE)))
    for words in ("16 MiB of 64 MiB", "2 of 4: CHOWN, KILL", "given up: NET_RAW", "no new"):
        assert words in lines
    assert confinement_lines(None) == []


def test_the_static_view_holds_the_confinement_and_stays_well_formed() -> None:
    svg = namespaces_picture.draw(namespaces_state(namespaces_example()))
    ElementTree.fromstring(svg)
    assert "2 of 4 capabilities" in svg
