"""A seed and a commit are a run: the same events in the same order, whatever the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.simulation.explore import PROFILES, explore, record
from labkit.world.sim.trace import Trace, diff

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
from labkit.cluster.raft.simulation.explore import PROFILES, record
for profile in sorted(PROFILES):
    print(record(7, 2.0, profile)[1].digest())
"""


def digests(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    first = digests("1")
    assert len(first) == len(PROFILES)
    assert first == digests("4711")


def test_tracing_does_not_change_the_run() -> None:
    plain = explore(3, 4.0)
    traced, trace = record(3, 4.0)
    assert plain == traced
    assert len(trace) > plain.events


def test_another_seed_is_another_run_and_the_first_difference_is_found() -> None:
    _, ours = record(1, 1.0, "everything")
    _, again = record(1, 1.0, "everything")
    _, theirs = record(2, 1.0, "everything")
    assert diff(ours, again) is None
    parted = diff(ours, theirs)
    assert parted is not None
    assert parted.ours != parted.theirs
    assert ours.events[: parted.step] == theirs.events[: parted.step]


def test_a_saved_trace_steps_both_ways(tmp_path: Path) -> None:
    _, trace = record(5, 3.0, "membership")
    path = tmp_path / "run.jsonl"
    trace.save(path)
    loaded = Trace.load(path)
    assert loaded.digest() == trace.digest()
    assert loaded.meta["seed"] == 5
    forward = [loaded.state_at(step) for step in range(0, len(loaded), 50)]
    backward = [loaded.state_at(step) for step in reversed(range(0, len(loaded), 50))]
    assert forward == backward[::-1]
    assert forward[-1][1].keys() >= {"role", "term", "vote", "log", "commit", "peers", "timeout"}


def test_every_message_that_arrives_was_sent_before() -> None:
    _, trace = record(5, 3.0, "disorder")
    flying: set[int] = set()
    for event in trace.events:
        if event.kind == "send":
            flying.add(event.detail["id"])
        elif event.kind == "deliver":
            assert event.detail["id"] in flying
            flying.remove(event.detail["id"])
    elected = trace.find({"deliver"}, 0)
    assert elected is not None


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for text in ("", "{}\n", '{"trace":1}\n[1]\n', "hello"):
        path.write_text(text)
        with pytest.raises(InvalidParameter, match="is not a trace"):
            Trace.load(path)
