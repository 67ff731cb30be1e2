"""Traces in pieces: whoever folds them sees what the recorder saw."""

from __future__ import annotations

from typing import Any

from labkit.cluster.raft.simulation.scenarios import play
from labkit.world.pages import RollingTrace, recorded


def folded(piece: dict[str, Any]) -> dict[str, dict[str, Any]]:
    states = {node: dict(state) for node, state in piece["base"].items()}
    for event in piece["events"]:
        states.setdefault(str(event["node"]), {}).update(event["state"])
    return states


def test_folding_a_recorded_piece_gives_the_states_of_the_trace() -> None:
    trace = play("election")
    piece = recorded(trace)
    last = trace.state_at(len(trace) - 1)
    found = folded(piece)
    assert {int(node): state for node, state in found.items() if node != "0"} == last
    assert piece["next"] == len(trace) - 1


def test_a_rolling_trace_read_in_small_pieces_is_the_same_as_read_at_once() -> None:
    trace = RollingTrace(keep=1000)
    for number in range(300):
        trace.record(number, "tick", 1 + number % 3, None, {"a": number // 7, "b": number % 2})
    whole = trace.page()
    pieces, after = [], -1
    while (piece := trace.page(after, 17))["events"]:
        pieces.append(piece)
        after = piece["next"]
    assert [event for piece in pieces for event in piece["events"]] == whole["events"]
    assert folded(pieces[-1]) == folded(whole)
    assert after == trace.last == 299


def test_what_a_rolling_trace_forgets_is_counted_and_its_states_stay_right() -> None:
    trace = RollingTrace(keep=10)
    for number in range(50):
        trace.record(number, "tick", 1, None, {"n": number, "still": "here"})
    piece = trace.page(4)
    assert piece["dropped"] == 35
    assert piece["base"] == {"1": {"n": 39, "still": "here"}}
    assert folded(piece) == {"1": {"n": 49, "still": "here"}}


def test_asking_for_what_is_to_come_gives_nothing_and_the_same_cursor() -> None:
    trace = RollingTrace()
    trace.record(0, "boot", 1, None, {"up": True})
    piece = trace.page(0)
    assert piece["events"] == []
    assert piece["next"] == 0
    assert piece["base"] == {"1": {"up": True}}
