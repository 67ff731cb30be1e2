"""The events view: lanes, rows and words come from what the engine has said."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from labkit.notebook.widgets.events_picture import (
    LANES_MAX,
    describe,
    draw,
    event_row,
    events_state,
)


def _event(at: float, action: str, name: str = "web", **attributes: str) -> dict[str, Any]:
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": name * 20, "Attributes": {"name": name, "image": "alpine", **attributes}},
        "timeNano": int(at * 1e9),
    }


def test_a_row_says_what_happened_to_what() -> None:
    row = event_row(_event(1000.25, "die", exitCode="3"))
    assert (row["name"], row["action"], row["group"]) == ("web", "die", "ended")
    assert row["details"] == "exit code 3, alpine"
    row = event_row(_event(1000, "exec_create: sh -c ls"))
    assert (row["action"], row["group"]) == ("exec_create", "other")
    assert row["details"].startswith("sh -c ls")


def test_an_object_without_a_name_goes_by_its_short_id() -> None:
    row = event_row({"Type": "network", "Action": "create", "Actor": {"ID": "f" * 64}, "time": 5})
    assert row["name"] == "f" * 12
    assert row["at"] == 5


def test_lanes_are_those_of_the_last_objects_in_order_of_appearance() -> None:
    rows = [event_row(_event(n, "create", f"c{n}")) for n in range(30)]
    state = events_state(rows, 40)
    assert [lane["name"] for lane in state["lanes"]] == [f"c{n}" for n in range(16, 30)]
    assert len(state["lanes"]) == LANES_MAX


def test_nothing_yet_is_said_in_words() -> None:
    state = events_state([], 100)
    assert "nothing has happened yet" in describe(state)
    assert "nothing has happened yet" in draw(state)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9),
            st.sampled_from(["create", "start", "die", "oom", "tag", "exec_start: <b>&", "x"]),
            st.text(min_size=1, max_size=30),
        ),
        max_size=40,
    )
)
def test_any_events_make_a_drawing_and_a_text_that_names_them(events: list[Any]) -> None:
    rows = [event_row(_event(at, action, name)) for at, action, name in sorted(events)]
    state = events_state(rows, 1e9)
    text = describe(state)
    assert all(row["action"] in text for row in rows)
    svg = draw(state)
    if "\x00" not in svg and svg.isprintable():
        ElementTree.fromstring(svg)
