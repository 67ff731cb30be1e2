"""Chance from a seed: the same seed gives the same draws, whatever PYTHONHASHSEED says."""

from __future__ import annotations

import random

from labkit.world.ports import Rng

__all__ = ["seeded"]


def seeded(seed: int) -> Rng:
    """A generator that depends on `seed` alone (Mersenne Twister)."""
    return random.Random(seed)  # noqa: S311 - reproducible on purpose, not secret
