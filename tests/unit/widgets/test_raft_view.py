"""The Raft view: states at any step, messages, sentences, stills, and what drawings may ask."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest

from labkit.base.errors import Conflict, InvalidParameter
from labkit.cluster.raft.simulation.scenarios import SCENARIOS, play
from labkit.notebook.widgets import raft as raft_view
from labkit.notebook.widgets.raft_picture import describe, draw, load_piece, picture, read_words
from labkit.notebook.widgets.raft_trace import RaftTrace, flying, is_telling, message_name
from labkit.world.pages import RollingTrace, recorded


@lru_cache(maxsize=16)
def story(name: str, servers: int | None = None) -> dict[str, Any]:
    return recorded(play(name, servers))


class Client:
    """The lab's API, as far as the view asks it; `live` is a swarm's trace while one is up."""

    def __init__(self, live: RollingTrace | None = None) -> None:
        self.live = live
        self.posted: list[tuple[str, Any]] = []

    def json(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None
    ) -> Any:
        asked = dict(query or {})
        if method == "POST":
            self.posted.append((path, body))
            return {"index": 5, "term": 2, "node": "manager-1"}
        if path == "/v1/raft/trace":
            if self.live is None:
                raise Conflict("no swarm is up in this lab", hint="labkit swarm up --managers 3")
            return self.live.page(int(asked["after"]), int(asked["limit"]))
        name = path.removeprefix("/v1/raft/scenarios").strip("/")
        if not name:
            return [
                {"name": key, "title": one.title, "sizes": [3, 5]} for key, one in SCENARIOS.items()
            ]
        return story(name, int(asked["servers"]) if "servers" in asked else None)


def swarm() -> RollingTrace:
    """A live trace made of a recorded one."""
    found = RollingTrace({"swarm": "x1", "names": {"1": "manager-1", "2": "manager-2"}})
    states: dict[int, dict[str, Any]] = {}
    for event in play("old-leader", 3).events[:150]:
        states[event.node] = {**states.get(event.node, {}), **event.changes}
        state = states[event.node] if event.node else None
        found.record(event.time_ns, event.kind, event.node, event.detail, state)
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_step_of_a_story_folds_as_if_it_were_walked(name: str) -> None:
    piece = story(name)
    trace = RaftTrace.of(piece)
    walked: dict[int, dict[str, Any]] = {}
    for number, event in enumerate(piece["events"]):
        node = event["node"]
        if node:
            walked[node] = {**walked.get(node, {}), **event["state"]}
            assert trace.state(node, number) == walked[node]
    assert {node: trace.state(node, len(piece["events"]) - 1) for node in trace.nodes} == walked
    assert trace.state(1, -1) is None


def test_a_message_flies_from_its_sending_to_its_end() -> None:
    trace = RaftTrace.of(story("divergence"))
    flights = trace.flights()
    for one in flights:
        if one.end is not None:
            assert one.end >= one.start
            assert trace.events[one.end]["kind"] in ("deliver", "lost")
    assert any(one.lost for one in flights)
    moment = next(one for one in flights if one.end is not None and not one.lost)
    assert moment in flying(flights, moment.start)
    assert moment.end is not None
    assert moment not in flying(flights, moment.end)
    assert {message_name(one.message) for one in flights} >= {"vote request", "append", "heartbeat"}


def test_lamport_clocks_rise_along_a_server_and_along_a_message() -> None:
    trace = RaftTrace.of(story("split-vote"))
    clocks = trace.clocks()
    last: dict[int, int] = {}
    for number, event in enumerate(trace.events):
        if event["node"]:
            assert clocks[number] > last.get(event["node"], 0)
            last[event["node"]] = clocks[number]
    for one in trace.flights():
        if one.end is not None and not one.lost:
            assert clocks[one.end] > clocks[one.start]


def test_the_split_vote_is_told_in_sentences() -> None:
    trace = RaftTrace.of(story("split-vote"))
    said = " ".join(trace.says)
    assert "S1 has heard no leader for 10 ticks and stands for election." in said
    assert re.search(r"S\d is now leader in term 2", said)
    text = describe(trace, 155)
    assert text.startswith("Raft: A split vote. Step 155 of")
    assert len(re.findall(r"S\d +candidate +1 ", text)) == 2


def test_thrown_away_entries_and_cuts_are_named() -> None:
    trace = RaftTrace.of(story("divergence"))
    assert any("are thrown away" in one for one in trace.says)
    middle = next(n for n, e in enumerate(trace.events) if e["kind"] == "cut")
    assert trace.cuts(middle)
    assert "Cut: " in describe(trace, middle)
    assert trace.cuts(len(trace.events) - 1) == set()


@pytest.mark.parametrize("servers", range(3, 10))
def test_a_still_is_well_formed_at_every_size(servers: int) -> None:
    trace = RaftTrace.of(story("latency", servers))
    assert len(trace.nodes) == servers
    for at in (0, trace.telling_moment(), len(trace.events) - 1):
        document = minidom.parseString(draw(trace, at))
        assert document.getElementsByTagName("desc")[0].firstChild.data == describe(trace, at)


def test_a_step_does_not_stop_at_a_tick_in_which_nothing_happens() -> None:
    events = story("election")["events"]
    quiet = [event for event in events if not is_telling(event)]
    assert {event["kind"] for event in quiet} <= {"tick", "write", "apply", "change"}
    assert any(event["kind"] == "tick" and is_telling(event) for event in events)


def test_words_are_a_name_and_numbers() -> None:
    assert read_words([]) == ("", {})
    assert read_words(["latency", "7"]) == ("latency", {"servers": 7})
    assert read_words(["election", "seed=3", "at=10"]) == ("election", {"seed": 3, "at": 10})
    for words in (["election", "latency"], ["x=1"], ["at=soon"]):
        with pytest.raises(InvalidParameter):
            read_words(words)


def test_without_a_name_it_is_the_swarm_and_without_a_swarm_the_first_story() -> None:
    svg, text = picture(Client(), [])  # type: ignore[arg-type]
    assert "A leader is elected" in text
    assert svg.startswith("<svg")
    live = swarm()
    _, text = picture(Client(live), [])  # type: ignore[arg-type]
    assert text.startswith(
        f"Raft: the managers of the swarm, live. Step {live.last} of {live.last}"
    )
    assert "manager-1" in text


def test_a_recorded_view_holds_every_event_with_its_sentence() -> None:
    client = Client()
    view = raft_view.make(client, ["split-vote", "at=155"])  # type: ignore[arg-type]
    assert view.state["mode"] == "recorded"
    assert "recorded" in view.state["why"]
    assert all({"say", "stop"} <= event.keys() for event in view.piece["events"])
    assert "Step 155 of" in view.static()[1]
    view._asked(view, {"type": "act", "action": "kill", "nodes": ["S1"]}, [])
    view._asked(view, {"type": "load", "name": "latency", "servers": 5}, [])
    until(lambda: view.state["name"] == "latency")
    assert view.state["servers"] == 5
    assert client.posted == []
    view.close()


def test_a_live_view_hands_on_what_is_new_and_acts_through_the_lab(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = swarm()
    client = Client(live)
    view = raft_view.make(client, [])  # type: ignore[arg-type]
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(view, "send", lambda content, buffers=None: sent.append(content))
    assert view.state["mode"] == "live"
    assert view.piece == {}
    view.refresh()
    assert sent == []
    live.record(10**12, "chaos", 0, {"text": "labkit chaos kill manager-1"})
    view.refresh()
    assert [event["step"] for event in sent[-1]["events"]] == [live.last]
    assert sent[-1]["events"][0]["say"] == "labkit chaos kill manager-1"

    view._asked(view, {"type": "pull", "view": "a"}, [])
    until(lambda: any(one.get("fresh") for one in sent))
    assert next(one for one in sent if one.get("fresh"))["view"] == "a"
    view._asked(
        view, {"type": "act", "action": "partition", "nodes": ["manager-1", "manager-2"]}, []
    )
    view._asked(view, {"type": "act", "action": "reboot the machine", "nodes": []}, [])
    view._asked(view, {"type": "propose", "value": "milk"}, [])
    until(lambda: len(client.posted) == 2)
    cut = {"action": "partition", "nodes": ["manager-1,manager-2"]}
    assert sorted(client.posted, key=str) == [
        ("/v1/chaos", cut),
        ("/v1/raft/propose", {"value": "milk"}),
    ]
    client.live = None
    view.refresh()
    assert "no swarm is up" in view.state["error"]
    client.live = RollingTrace({"swarm": "x2", "names": {}})
    client.live.record(1, "note", 0, {"text": "another swarm"})
    view.refresh()
    assert sent[-1]["fresh"]
    assert sent[-1]["meta"]["swarm"] == "x2"
    assert view.state["error"] == ""
    view.close()


def test_a_saved_run_is_the_run(tmp_path: Path) -> None:
    trace = play("split-vote")
    trace.save(tmp_path / "run.jsonl")
    found = load_piece(tmp_path / "run.jsonl")
    assert found["events"] == story("split-vote")["events"]
    assert found["meta"]["title"] == "A split vote"
    assert picture(Client(), [str(tmp_path / "run.jsonl"), "at=155"])[1].startswith("Raft: A split")  # type: ignore[arg-type]
    (tmp_path / "no.jsonl").write_text('{"a": 1}\n')
    for name in ("no.jsonl", "none.jsonl"):
        with pytest.raises(InvalidParameter, match="cannot read a trace"):
            load_piece(tmp_path / name)
