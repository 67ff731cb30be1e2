"""labkit-oci beside crun and runc: `run` of /bin/true from the same bundle, turn by turn.

The same config.json (all namespaces, capabilities, a filter, limits), the same root. Prints medians
and ratios; asserts nothing.

    bench_oci.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.host.isolation.oci.template import template

GAP_S = 0.1
LABKIT = str(Path(sys.executable).with_name("labkit-oci"))


def commands(root: Path) -> dict[str, list[str]]:
    """How to run a container with each runtime that is installed."""
    found = {"labkit-oci": [LABKIT, "--root", str(root)]}
    if shutil.which("crun"):
        # crun refuses the hybrid layout of control groups: hide its v2 half.
        hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
        found["crun"] = ["crun"]
        if Path("/sys/fs/cgroup/unified").exists():
            found["crun"] = ["unshare", "-m", "sh", "-c", hide, "sh", "crun"]
    if shutil.which("runc"):
        found["runc"] = ["runc"]
    return found


@contextmanager
def bundle() -> Iterator[Path]:
    """A bundle whose process is /bin/true."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("bin", "proc", "dev", "sys"):
            (folder / "rootfs" / part).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", folder / "rootfs/bin/true")
        config = template(rootless=False)
        config["process"].update(terminal=False, args=["/bin/true"])
        config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
        config["linux"]["resources"]["pids"] = {"limit": 100}
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["kexec_load", "reboot"], "action": "SCMP_ACT_ERRNO"}],
        }
        (folder / "config.json").write_text(json.dumps(config))
        yield folder


def once(words: list[str], folder: Path, number: int) -> float:
    began = time.perf_counter()
    subprocess.run(
        [*words, "run", "--bundle", str(folder), f"bench{os.getpid()}-{number}"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return (time.perf_counter() - began) * 1000


def measure(rounds: int, gap_s: float) -> dict[str, list[float]]:
    """Milliseconds of each runtime, interleaved."""
    with bundle() as folder:
        runtimes = commands(folder / "state")
        found: dict[str, list[float]] = {name: [] for name in runtimes}
        for number in range(-2, rounds):
            for name, words in runtimes.items():
                time.sleep(gap_s)
                took = once(words, folder, number + 2)
                if number >= 0:
                    found[name].append(took)
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    if os.geteuid() != 0:
        sys.exit("bench_oci: needs root")
    for title, gap in (("back to back", 0.0), (f"gaps of {GAP_S * 1000:.0f} ms", GAP_S)):
        print(f"\nOCI run of /bin/true, {rounds} rounds, {title}")
        found = measure(rounds, gap)
        ours = statistics.median(found["labkit-oci"])
        for name, times in found.items():
            low, middle, high = statistics.quantiles(times, n=4)
            spread = f"[{low:.1f} .. {high:.1f}]"
            print(f"  {name:<11} {middle:7.1f} ms  {spread}  ours/its {ours / middle:.2f}")


if __name__ == "__main__":
    main()
