"""Live through many seeds, on every core: `make sim SEEDS=1000`.

    python -m labkit.cluster.raft.simulation [--seeds N] [--from SEED] [--seconds S]
                                             [--profile NAME] [--jobs N] [--limit S]
                                             [--trace FILE] [--store]

Prints what was simulated and every seed that failed; the exit code is 1 if one did. `--trace FILE`
lives through the first seed only and writes down everything that happened. `--store` has the
key-value store as state machine, whose clients write, read and compare-and-swap.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from labkit.cluster.raft.simulation.explore import PROFILES, Outcome, explore, record
from labkit.world.real.clock import MonotonicClock

__all__ = ["main"]

CHUNK = 4


@dataclass
class Total:
    """What all seeds came to."""

    seeds: int = 0
    seconds: float = 0.0
    hours: dict[str, float] = field(default_factory=dict)
    events: int = 0
    committed: int = 0
    operations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.seconds += outcome.seconds
        hours = self.hours.get(outcome.profile, 0.0)
        self.hours[outcome.profile] = hours + outcome.seconds / 3600
        self.events += outcome.events
        self.committed += outcome.committed
        self.operations += outcome.operations
        self.faults += outcome.faults
        if outcome.failure is not None:
            self.failures.append(outcome)
            print(f"seed {outcome.seed}: {outcome.failure}", flush=True)

    def tell(self, wall_s: float, jobs: int) -> None:
        rate = self.events / wall_s if wall_s else 0.0
        print(
            f"{self.seeds} seeds, {self.seconds / 3600:.2f} simulated cluster-hours, "
            f"{self.events:,} events ({rate:,.0f} a second on {jobs} cores), "
            f"{self.committed:,} commands committed, "
            f"{self.operations:,} client operations checked for linearizability"
        )
        hours = ", ".join(f"{name} {count:,.2f}" for name, count in sorted(self.hours.items()))
        print(f"cluster-hours by profile: {hours}")
        told = ", ".join(f"{name} {count:,}" for name, count in self.faults.most_common())
        print(f"{self.faults.total():,} faults: {told or 'none'}")
        if self.failures:
            print("failed seeds: " + " ".join(str(outcome.seed) for outcome in self.failures))
        else:
            print("no promise was broken")


def _outcomes(jobs: int, seeds: Iterable[int], one: partial[Outcome]) -> Iterable[Outcome]:
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(one, seeds, chunksize=CHUNK)
        finally:
            pool.shutdown(cancel_futures=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m labkit.cluster.raft.simulation")
    parser.add_argument("--seeds", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first (default 0)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="of simulated time, for each; a hundredfold for profile docker",
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), help="default: the seed chooses")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="default: all cores")
    parser.add_argument("--limit", type=float, default=0.0, help="stop after so many real seconds")
    parser.add_argument("--trace", type=Path, help="write down the run of the first seed")
    parser.add_argument("--store", action="store_true", help="with the key-value store on top")
    options = parser.parse_args(argv)
    clock = MonotonicClock()
    began = clock.now_ns()
    total = Total()
    if options.trace is not None:
        outcome, trace = record(options.first, options.seconds, options.profile)
        trace.save(options.trace)
        total.add(outcome)
        print(f"{options.trace}: {len(trace):,} steps")
        jobs = 1
    else:
        jobs = max(1, min(options.jobs, options.seeds // CHUNK))
        seeds = range(options.first, options.first + options.seeds)
        one = partial(explore, seconds=options.seconds, profile=options.profile)
        if options.store:
            from labkit.cluster.store.simulation import store_outcome

            one = partial(store_outcome, seconds=options.seconds)
        for outcome in _outcomes(jobs, seeds, one):
            total.add(outcome)
            if options.limit and clock.now_ns() - began > options.limit * 1e9:
                break
    total.tell((clock.now_ns() - began) / 1e9, jobs)
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
