"""How fast a container's output reaches its json-file log, with rotation, and who pays for it.

One container prints N MB of lines; the shim writes them. Prints the throughput, the processor
time that this process (the daemon's part) and the shim spent, and for comparison what the same
disk takes from a plain copy of as many bytes. Asserts nothing about time.

    python tests/bench/bench_logs.py [--megabytes 200] [--line 100]
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

from labkit.host.isolation.runtime import Runtime, Shim
from labkit.host.isolation.spec import IoSpec

MAX_BYTES, MAX_FILES = 50 << 20, 3
BLOCK = 1 << 20
PIECE_MB = 10
_TICKS_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


async def once(host: Host, megabytes: int) -> tuple[float, float, float, int]:
    """Seconds, the shim's processor seconds, ours, and the bytes that were logged."""
    # Printed in large blocks, so that the printing program is not what is measured.
    script = f"i=0; while [ $i -lt {megabytes // PIECE_MB} ]; do cat /lines; i=$((i+1)); done"
    spec = host.spec("sh", "-c", script)
    io = IoSpec(
        log_path=host.place(spec) / "log.json", log_max_bytes=MAX_BYTES, log_max_files=MAX_FILES
    )
    shim: Shim = await host.runtime.start(spec, io, host.place(spec) / "state", hold=True)
    before_shim, before_us = cpu_s(shim.pid), time.process_time()
    start = time.perf_counter()
    await shim.release()
    spent, total = 0.0, 0
    while True:
        position = await shim.wait_log(total + (64 << 20))
        total = position.total
        if position.ended:
            break
        spent = cpu_s(shim.pid)
    elapsed = time.perf_counter() - start
    status = await shim.wait()
    assert status.code == 0
    await shim.cleanup()
    return elapsed, max(spent - before_shim, 0.0), time.process_time() - before_us, total


def disk_once(folder: Path, total: int) -> float:
    """Seconds that writing as many bytes, in files as long as the log's, takes."""
    data = os.urandom(1 << 16) * (BLOCK >> 16)
    start = time.perf_counter()
    written = 0
    while written < total:
        with (folder / "copy").open("wb", buffering=0) as file:
            for _ in range(min(MAX_BYTES, total - written) // BLOCK + 1):
                file.write(data)
                written += BLOCK
    return time.perf_counter() - start


async def measure(rounds: int, megabytes: int, line: int, folder: Path) -> None:
    host = Host(folder, make_rootfs(folder / "rootfs"), Runtime(host=None, instance="bench-logs"))
    text = ("x" * (line - 1) + "\n") * ((PIECE_MB << 20) // line + 1)
    (host.rootfs / "lines").write_text(text[: PIECE_MB << 20])
    rates, disks = [], []
    for _ in range(rounds):
        elapsed, shim_s, our_s, total = await once(host, megabytes)
        disk = await asyncio.to_thread(disk_once, folder, total)
        rates.append(megabytes / elapsed)
        disks.append(total / (1 << 20) / disk)
        print(
            f"{megabytes} MB printed as {total >> 20} MB of log in {elapsed:.2f} s:"
            f" {rates[-1]:.0f} MB/s; shim {shim_s:.2f} s, daemon {our_s:.3f} s of processor;"
            f" the disk takes {disks[-1]:.0f} MB/s"
        )
    print(f"median {statistics.median(rates):.0f} MB/s of output")
    host.runtime.close()
    host.runtime.cgroups.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--line", type=int, default=100, help="bytes per line, its end included")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lkbench") as name:
        asyncio.run(measure(words.rounds, words.megabytes, words.line, Path(name)))


if __name__ == "__main__":
    main()
