"""Whole lives of clusters, one seed each: no promise is broken. `make sim` runs many more."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from labkit.cluster.raft.simulation.explore import PROFILES, explore

FIRST = int(os.environ.get("LABKIT_TEST_SEED", "0"))


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_no_promise_is_broken(profile: str) -> None:
    faults: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + 4):
        outcome = explore(seed, 10.0, profile)
        faults += outcome.faults
        assert outcome.failure is None, f"profile {profile!r}, seed {seed}: {outcome.failure}"
        assert outcome.committed > 10, f"seed {seed} committed next to nothing"
    assert faults, "nothing went wrong, so nothing was shown"


def test_a_seed_chooses_its_own_profile() -> None:
    for seed in range(FIRST + 100, FIRST + 110):
        outcome = explore(seed, 10.0)
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}"
