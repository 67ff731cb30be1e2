"""How long a container takes from the request to the end of /bin/true, beside its peers.

Runs floor (tests/bench/floor.c), our core, crun and runc in turn (A B C D A B C D …) on one root
with the same limits and prints medians and ratios; asserts nothing about time.

    python tests/bench/bench_start.py [--rounds 50] [--gap-ms 0] [--ballast-mb 0]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "system" / "isolation"))

from isolation_kit import Host, make_rootfs

from labkit.host.isolation.defaults import MASKED_PATHS, READONLY_PATHS
from labkit.host.isolation.runtime import Runtime
from labkit.host.isolation.spec import IoSpec, ResourceLimits

HERE = Path(__file__).parent
LIMITS = ResourceLimits(memory_bytes=64 << 20, pids=100)


def build_floor(folder: Path) -> Path:
    program = folder / "floor"
    subprocess.run(["cc", "-O2", "-static", "-o", program, HERE / "floor.c"], check=True)
    return program


def floor_once(program: Path, rootfs: Path, layers: list[Path]) -> float:
    command = [program, "1", rootfs, *layers, "0", "/bin/true"]
    return int(subprocess.run(command, check=True, capture_output=True).stdout) / 1e6


def bundle(folder: Path, rootfs: Path, tool: str) -> Path:
    """An OCI bundle that asks runc and crun for what our core is asked for."""
    place = folder / f"bundle-{tool}"
    place.mkdir()
    spec = subprocess.run([tool, "spec"], cwd=place, check=False)
    assert spec.returncode == 0
    path = place / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=["/bin/true"], env=["PATH=/bin"], rlimits=[])
    config["root"] = {"path": str(rootfs), "readonly": False}
    config["linux"]["resources"] = {
        "memory": {"limit": LIMITS.memory_bytes},
        "pids": {"limit": LIMITS.pids},
    }
    config["linux"]["maskedPaths"] = list(MASKED_PATHS)
    config["linux"]["readonlyPaths"] = list(READONLY_PATHS)
    config["linux"]["namespaces"] = [
        {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
    ]
    config["mounts"] = [m for m in config["mounts"] if m["type"] != "cgroup"]
    path.write_text(json.dumps(config))
    return place


def run_tool(tool: str, place: Path, name: str) -> None:
    command = [tool, "run", "--bundle", str(place), name]
    if tool == "crun":
        # crun refuses the hybrid layout; a mount namespace without the v2 tree hides it.
        unified = Path("/sys/fs/cgroup/unified")
        if unified.is_dir():
            script = f'umount {unified}; exec "$@"'
            command = ["unshare", "-m", "sh", "-c", script, "sh", *command]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


async def core_once(host: Host) -> float:
    """Milliseconds from the request to the known end; folders are made before, as for the floor."""
    spec = host.spec("/bin/true", limits=LIMITS)
    io = IoSpec(log_path=host.place(spec) / "log.json")
    start = time.perf_counter()
    shim = await host.runtime.start(spec, io, host.place(spec) / "state")
    status = await shim.wait()
    elapsed_ms = (time.perf_counter() - start) * 1e3
    assert status.code == 0
    host.shims.append(shim)
    return elapsed_ms


async def measure(rounds: int, gap_s: float, folder: Path) -> dict[str, list[float]]:
    rootfs = make_rootfs(folder / "rootfs")
    host = Host(folder, rootfs, Runtime(host=None, instance=f"bench-{os.getpid()}", probe=None))
    floor = build_floor(folder)
    tools: dict[str, Callable[[int], Awaitable[None]]] = {}
    found: dict[str, list[float]] = {"floor": [], "core": []}
    for tool in ("crun", "runc"):
        if shutil.which(tool) is None:
            print(f"{tool} is missing")
            continue
        place = bundle(folder, rootfs, tool)
        found[tool] = []

        async def run(number: int, tool: str = tool, place: Path = place) -> None:
            await asyncio.to_thread(run_tool, tool, place, f"{tool}{number}")

        tools[tool] = run
    for number in range(rounds + 2):
        layers = [folder / f"floor{number}-{kind}" for kind in ("upper", "work")]
        for layer in layers:
            layer.mkdir()
        times = {"floor": await asyncio.to_thread(floor_once, floor, rootfs, layers)}
        await asyncio.sleep(gap_s)
        times["core"] = await core_once(host)
        await host.shims.pop().cleanup()
        await asyncio.sleep(gap_s)
        for tool, run in tools.items():
            start = time.perf_counter()
            await run(number)
            times[tool] = (time.perf_counter() - start) * 1e3
            await asyncio.sleep(gap_s)
        if number >= 2:  # the first two warm the caches
            for name, value in times.items():
                found[name].append(value)
    host.runtime.close()
    host.runtime.cgroups.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--gap-ms", type=float, default=0)
    parser.add_argument("--ballast-mb", type=int, default=0, help="resident memory of the daemon")
    arguments = parser.parse_args()
    ballast = bytearray(os.urandom(1 << 20) * arguments.ballast_mb)
    with tempfile.TemporaryDirectory(prefix="lkbench") as name:
        found = asyncio.run(measure(arguments.rounds, arguments.gap_ms / 1e3, Path(name)))
    del ballast
    floor = statistics.median(found["floor"])
    print(
        f"{arguments.rounds} rounds, gap {arguments.gap_ms} ms, {arguments.ballast_mb} MB resident"
    )
    for name, values in found.items():
        low, middle, high = statistics.quantiles(values, n=4)
        core = statistics.median(found["core"])
        print(
            f"{name:6} median {middle:7.2f} ms  quartiles {low:6.2f}–{high:6.2f}"
            f"  {middle / floor:5.2f} x floor  {core / middle:5.2f} = core / {name}"
        )


if __name__ == "__main__":
    main()
