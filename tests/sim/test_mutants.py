"""The simulator is worth its name: it finds every mistake that we plant."""

from __future__ import annotations

import pytest

from labkit.cluster.raft.simulation.explore import explore
from tests.sim.mutants import MUTANTS, planted

SEEDS = 60
"""Each is found within the first dozen at the time of writing; chance may move with the code."""


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_mistake_is_found(name: str) -> None:
    with planted(name):
        for seed in range(SEEDS):
            found = explore(seed, profile=MUTANTS[name].profile)
            if found.failure is not None:
                print(f"{name}: seed {seed}: {found.failure}")
                return
    pytest.fail(f"{SEEDS} seeds did not find it")


def test_there_are_at_least_eight_mutants() -> None:
    assert len(MUTANTS) >= 8
