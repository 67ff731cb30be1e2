"""Which news to tell next: the least told first, each a number of times that grows with log n.

Telling each of n nodes something λ·log n times reaches everybody with high probability (section
4.1): epidemics need no plan.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Rumours", "tellings"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def tellings(nodes: int, factor: int) -> int:
    """How often one node passes a rumour on: factor · ceil(log10(nodes + 1)), without floats."""
    return factor * len(str(nodes))


class Rumours(Generic[K, V]):
    """News by subject; fresh news about a subject replaces the old and starts over."""

    __slots__ = ("_told", "_what")

    def __init__(self) -> None:
        self._what: dict[K, V] = {}
        self._told: dict[K, int] = {}

    def add(self, subject: K, news: V) -> None:
        """Something to tell."""
        self._what.pop(subject, None)
        self._what[subject] = news
        self._told[subject] = 0

    def drop(self, subject: K) -> None:
        """It does not matter any more."""
        self._what.pop(subject, None)
        self._told.pop(subject, None)

    def next(self, count: int, limit: int) -> tuple[V, ...]:
        """Up to `count` pieces, told at most `limit` times each altogether."""
        if not self._what:
            return ()
        told = self._told
        chosen = list(self._what)
        if len(chosen) > count:
            chosen = sorted(chosen, key=told.__getitem__)[:count]
        news = tuple(self._what[subject] for subject in chosen)
        for subject in chosen:
            told[subject] += 1
            if told[subject] >= limit:
                self.drop(subject)
        return news

    def __len__(self) -> int:
        return len(self._what)
