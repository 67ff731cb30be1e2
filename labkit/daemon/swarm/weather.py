"""What happens to messages between nodes on their way: nothing, until somebody breaks something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labkit.world.ports import Rng

__all__ = ["Weather", "Wire"]


@dataclass(slots=True)
class Wire:
    """One direction between two nodes, by name. `loss` is a share from 0 to 1."""

    cut: bool = False
    loss: float = 0.0
    delay_ms: float = 0.0

    @property
    def is_clear(self) -> bool:
        return not (self.cut or self.loss or self.delay_ms)


class Weather:
    """Which wires are bad. Messages between nodes ask `fate` before they leave."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._wires: dict[tuple[str, str], Wire] = {}

    def wire(self, source: str, target: str) -> Wire:
        """The wire from one node to another, to be changed."""
        return self._wires.setdefault((source, target), Wire())

    def fate(self, source: str, target: str) -> float | None:
        """Seconds that a message takes on top; None when it is lost."""
        wire = self._wires.get((source, target)) if self._wires else None
        if wire is None:
            return 0.0
        if wire.cut or (wire.loss and self._rng.random() < wire.loss):
            return None
        return wire.delay_ms / 1000

    def cut(self, one: Iterable[str], other: Iterable[str], *, both: bool = True) -> None:
        """Lose everything from the one side to the other, and back."""
        far = list(other)
        for source in one:
            for target in far:
                if source != target:
                    self.wire(source, target).cut = True
                    if both:
                        self.wire(target, source).cut = True

    def heal(self) -> None:
        """Every wire is good again."""
        self._wires.clear()

    def forget(self, node: str) -> None:
        """A node is gone, and its wires with it."""
        self._wires = {pair: wire for pair, wire in self._wires.items() if node not in pair}

    def bad(self) -> list[dict[str, Any]]:
        """The wires that are not clear, as plain values."""
        return [
            {
                "from": source,
                "to": target,
                "cut": wire.cut,
                "loss": wire.loss,
                "delay_ms": wire.delay_ms,
            }
            for (source, target), wire in sorted(self._wires.items())
            if not wire.is_clear
        ]
