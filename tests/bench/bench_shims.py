"""What many idle containers cost: memory of daemon and shims, and how quick the last start is.

Starts N containers that sleep, through the isolation core, and prints the proportional set size
(PSS, proc(5)) of this process, of the nursery, and of the shims; asserts nothing about time.

    python tests/bench/bench_shims.py [--containers 500]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "system" / "isolation"))

from isolation_kit import Host, make_rootfs

from labkit.host.isolation.runtime import Runtime
from labkit.host.isolation.spec import IoSpec, ResourceLimits

LIMITS = ResourceLimits(memory_bytes=64 << 20, pids=100)
BUNDLE = 20
"""How many starts at either end are compared."""


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


async def measure(count: int, folder: Path) -> None:
    host = Host(folder, make_rootfs(folder / "rootfs"), Runtime(host=None, instance="bench-shims"))
    times = []
    try:
        for _ in range(count):
            spec = host.spec("sleep", "100000", limits=LIMITS)
            io = IoSpec(log_path=host.place(spec) / "log.json")
            start = time.perf_counter()
            host.shims.append(await host.runtime.start(spec, io, host.place(spec) / "state"))
            times.append((time.perf_counter() - start) * 1e3)
            # A start leaves work behind (the next shim, RCU): let it be done.
            await asyncio.sleep(0.01)
        shims = [pss_kb(shim.pid) for shim in host.shims]
        daemon = pss_kb(os.getpid())
        ready = [pss_kb(pid) for pid in host.runtime.helpers]
        first, last = (statistics.median(part) for part in (times[:BUNDLE], times[-BUNDLE:]))
        print(f"{count} idle containers")
        print(f"shim PSS       median {statistics.median(shims):.0f} kB, highest {max(shims)} kB")
        print(f"nursery PSS    {ready} kB (itself, and the shims that wait)")
        total = daemon + sum(shims) + sum(ready)
        print(f"all PSS        {total / 1024:.1f} MB, of which this process {daemon / 1024:.1f} MB")
        print(
            f"start          first {BUNDLE} {first:.2f} ms, last {BUNDLE} {last:.2f} ms (medians),"
            f" {last / first:.2f} x"
        )
    finally:
        await asyncio.gather(*(shim.cleanup() for shim in host.shims))
        host.runtime.close()
        host.runtime.cgroups.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=500)
    with tempfile.TemporaryDirectory(prefix="lkbench") as name:
        asyncio.run(measure(parser.parse_args().containers, Path(name)))


if __name__ == "__main__":
    main()
