"""The ready-made stories of the Raft view show what their titles promise, at every size."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.simulation import __main__ as command
from labkit.cluster.raft.simulation.scenarios import SCENARIOS, play
from labkit.world.sim.trace import Trace


@pytest.mark.parametrize("servers", [3, 5, 7, 9])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_story_ends_with_one_leader_and_equal_logs(name: str, servers: int) -> None:
    trace = play(name, servers)
    last = trace.state_at(len(trace) - 1)
    assert len(last) == servers
    leaders = [node for node, state in last.items() if state["role"] == "leader"]
    assert len(leaders) == 1, {node: state["role"] for node, state in last.items()}
    assert len({tuple(state["log"]) for state in last.values()}) == 1
    notes = [event.detail["text"] for event in trace.events if event.kind == "note"]
    assert notes
    assert len(trace) < 6000


def test_the_split_vote_is_one() -> None:
    for servers in (4, 5):
        trace = play("split-vote", servers)
        roles = [trace.state_at(step) for step in range(0, len(trace), 5)]
        assert any(sum(s["role"] == "candidate" for s in now.values()) == 2 for now in roles)
        final = trace.state_at(len(trace) - 1)
        assert {state["term"] for state in final.values()} >= {2} or final[1]["term"] > 1


def test_the_divergent_logs_are_seen_before_they_are_repaired() -> None:
    trace = play("divergence")
    longest = max(
        len({tuple(state["log"]) for state in trace.state_at(step).values()})
        for step in range(0, len(trace), 5)
    )
    assert longest >= 2


def test_a_message_in_flight_is_told_with_its_delay() -> None:
    trace = play("election", 3)
    sent = next(event for event in trace.events if event.kind == "send")
    assert sent.detail["delay_ns"] > 0
    assert sent.detail["message"][0] == "Vote"


def test_unknown_stories_and_sizes_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="no scenario"):
        play("nonsense")
    with pytest.raises(InvalidParameter, match="3 to 9"):
        play("election", 11)


def test_many_seeds_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--seeds", "2", "--seconds", "2", "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    assert "2 seeds" in told
    assert "no promise was broken" in told
    path = tmp_path / "run.jsonl"
    assert command.main(["--from", "5", "--seconds", "1", "--trace", str(path)]) == 0
    assert Trace.load(path).meta["seed"] == 5
