"""How long until everybody knows, from 3 nodes to 1,000? In virtual time, 1 % of messages lost."""

from __future__ import annotations

import sys
import time

from labkit.cluster.gossip.simulation import measure

SIZES = (3, 10, 30, 100, 300, 1000)


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def main(sizes: tuple[int, ...] = SIZES) -> None:
    head = (
        "nodes",
        "endpoint known",
        "death noticed",
        "death known",
        "newcomer",
        "msg/node/s",
        "CPU",
    )
    print("".join(f"{word:>16}" for word in head))
    for size in sizes:
        began = time.process_time()
        found = measure(size, seed=size)
        row = (
            str(size),
            seconds(found.endpoint_everywhere_s),
            seconds(found.death_noticed_s),
            seconds(found.death_everywhere_s),
            seconds(found.newcomer_everywhere_s),
            f"{found.messages_per_node_second:.1f}",
            f"{time.process_time() - began:.1f} s",
        )
        print("".join(f"{word:>16}" for word in row), flush=True)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
