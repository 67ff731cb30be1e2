"""A network that is slow, lossy and unfair, as told.

Messages take a minimum time and a random rest, so they overtake each other; they can be lost or
arrive twice; a link can be clogged (everything waits) or cut, in one direction or both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labkit.world.ports import Rng
from labkit.world.sim.loop import Loop

__all__ = ["Link", "Network"]


@dataclass(frozen=True, slots=True)
class Link:
    """How a link behaves.

    `latency_ns` is the least a message takes, `jitter_ns` the mean of an exponential addition;
    `loss` and `duplicate` are probabilities.
    """

    latency_ns: int = 500_000
    jitter_ns: int = 500_000
    loss: float = 0.0
    duplicate: float = 0.0


class Network:
    """Carries messages between numbered nodes; `deliver(source, target, message)` receives them."""

    __slots__ = (
        "_clogged",
        "_cut",
        "_deliver",
        "_links",
        "_loop",
        "_rng",
        "default",
        "lost",
        "sent",
    )

    def __init__(
        self, loop: Loop, rng: Rng, deliver: Callable[[int, int, Any], None], default: Link
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._deliver = deliver
        self.default = default
        self._links: dict[tuple[int, int], Link] = {}
        self._cut: set[tuple[int, int]] = set()
        self._clogged: dict[tuple[int, int], int] = {}
        self.sent = 0
        self.lost = 0

    def send(self, source: int, target: int, message: Any) -> None:
        """Send one message; whether and when it arrives is drawn here, so that cutting a link
        later still loses what is on its way (checked again on arrival)."""
        self.sent += 1
        pair = (source, target)
        link = self._links.get(pair, self.default) if self._links else self.default
        rng = self._rng
        if pair in self._cut or (link.loss and rng.random() < link.loss):
            self.lost += 1
            return
        self._carry(pair, link, message)
        if link.duplicate and rng.random() < link.duplicate:
            self._carry(pair, link, message)

    def _carry(self, pair: tuple[int, int], link: Link, message: Any) -> None:
        self._loop.after(self._delay(pair, link), self._arrive, pair, message)

    def _delay(self, pair: tuple[int, int], link: Link) -> int:
        delay = link.latency_ns
        if link.jitter_ns:
            delay += int(self._rng.expovariate(1.0) * link.jitter_ns)
        if self._clogged:
            delay += max(0, self._clogged.get(pair, 0) - self._loop.now)
        return delay

    def _arrive(self, pair: tuple[int, int], message: Any) -> None:
        if pair in self._cut:
            self.lost += 1
        else:
            self._deliver(pair[0], pair[1], message)

    # -- what can be done to it --------------------------------------------------------------------

    def cut(self, sources: Iterable[int], targets: Iterable[int], *, both: bool = True) -> None:
        """Lose everything from `sources` to `targets`, and back when `both`."""
        wanted = list(targets)
        for source in sources:
            for target in wanted:
                if source != target:
                    self._cut.add((source, target))
                    if both:
                        self._cut.add((target, source))

    def clog(self, source: int, target: int, duration_ns: int) -> None:
        """Hold back what is sent from now on until `duration_ns` have passed."""
        self._clogged[source, target] = self._loop.now + duration_ns

    def shape(self, source: int, target: int, link: Link) -> None:
        """Give one direction of one link a behaviour of its own."""
        self._links[source, target] = link

    def heal(self) -> None:
        """All links work as by default again; what was lost stays lost."""
        self._cut.clear()
        self._clogged.clear()
        self._links.clear()

    def is_cut(self, source: int, target: int) -> bool:
        return (source, target) in self._cut
