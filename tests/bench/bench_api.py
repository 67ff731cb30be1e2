"""What clients wait for: labkit beside Docker Engine, by the real client and by the API.

    python -m tests.bench.bench_api [--only run,many,stats,logs,ps,memory] [--containers 50]

`run`: `docker run --rm busybox true` end to end. `many`: 50 × `run -d` and `rm -f` of all.
`stats`: `stats --no-stream` over them. `logs`: draining 100 MB of log. `ps`: a list of 500
containers, in the daemon. `memory`: the daemon idle and with 100 containers. Contestants take
turns where a round is short; the table prints ratios and asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bench_run import Api, dockerd, labkit

LOG_BYTES = 100_000_000
LINE = "x" * 99


@dataclass
class Contestant:
    """One engine: its socket, and its processes for the memory table."""

    name: str
    socket: Path
    process: int

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """The real client."""
        env = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}"}
        return subprocess.run(["docker", *words], env=env, check=check, capture_output=True)

    @property
    def options(self) -> tuple[str, ...]:
        """What a run needs: dockerd is started without its bridge."""
        return ("--network", "none")

    def resident_mb(self) -> float:
        text = Path(f"/proc/{self.process}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def table(title: str, rows: dict[str, list[float]], unit: str = "ms") -> None:
    """Medians, and the first contestant's share of the second."""
    print(f"\n{title}")
    medians = {name: statistics.median(values) for name, values in rows.items()}
    for name, values in rows.items():
        print(f"  {name:10} {medians[name]:10.1f} {unit}   of {len(values)}")
    if len(medians) == 2:
        first, second = medians.values()
        print(
            f"  labkit takes {first / second:.3f} of dockerd's, 1/{second / max(first, 1e-9):.1f}"
        )


def bench_run(contestants: list[Contestant], rounds: int) -> None:
    rows: dict[str, list[float]] = {one.name: [] for one in contestants}
    for number in range(rounds + 1):
        for one in contestants:
            words = ("run", "--rm", *one.options, "busybox", "true")
            took = timed(lambda one=one, words=words: one.docker(*words))  # type: ignore[misc]
            if number:
                rows[one.name].append(took)
            time.sleep(0.1)
    table("docker run --rm busybox true", rows)


def bench_many(contestants: list[Contestant], count: int) -> dict[str, list[str]]:
    started: dict[str, list[str]] = {}
    rows: dict[str, list[float]] = {}
    for one in contestants:
        found: list[str] = []

        def go(one: Contestant = one, found: list[str] = found) -> None:
            for _ in range(count):
                done = one.docker("run", "-d", *one.options, "busybox", "busybox", "sleep", "1d")
                found.append(done.stdout.decode().strip())

        rows[one.name] = [timed(go)]
        started[one.name] = found
    table(f"{count} x docker run -d", rows)
    return started


def bench_stats(contestants: list[Contestant], rounds: int) -> None:
    rows: dict[str, list[float]] = {one.name: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            rows[one.name].append(timed(lambda one=one: one.docker("stats", "--no-stream")))  # type: ignore[misc]
    table("docker stats --no-stream (the client itself waits 500 ms)", rows)


def bench_samples(contestants: list[Contestant], started: dict[str, list[str]]) -> None:
    """The same without the client: one request for each container, all at once."""
    from concurrent.futures import ThreadPoolExecutor

    rows: dict[str, list[float]] = {one.name: [] for one in contestants}
    for _ in range(3):
        for one in contestants:

            def ask(identifier: str, one: Contestant = one) -> None:
                Api(one.socket).ask("GET", f"/containers/{identifier}/stats?stream=0")

            with ThreadPoolExecutor(len(started[one.name])) as pool:
                work = lambda one=one, pool=pool, ask=ask: list(pool.map(ask, started[one.name]))  # type: ignore[misc]  # noqa: E731
                rows[one.name].append(timed(work))
    table("GET stats?stream=0 of all at once", rows)


def bench_remove(contestants: list[Contestant], started: dict[str, list[str]]) -> None:
    rows = {
        one.name: [timed(lambda one=one: one.docker("rm", "-f", *started[one.name]))]  # type: ignore[misc]
        for one in contestants
    }
    table("docker rm -f of all", rows)


def bench_logs(contestants: list[Contestant]) -> None:
    rows: dict[str, list[float]] = {}
    for one in contestants:
        script = f"busybox yes {LINE} | busybox head -c {LOG_BYTES}"
        one.docker(
            "run", "--name", "printer", *one.options, "busybox", "busybox", "sh", "-c", script
        )
        env = {**os.environ, "DOCKER_HOST": f"unix://{one.socket}"}

        def drain(env: dict[str, str] = env) -> None:
            subprocess.run(
                ["docker", "logs", "printer"], env=env, check=True, stdout=subprocess.DEVNULL
            )

        rows[one.name] = [LOG_BYTES / 1000 / timed(drain) for _ in range(3)]
        one.docker("rm", "-f", "printer")
    table("docker logs of 100 MB to /dev/null", rows, "MB/s")


def bench_ps(one: Contestant, count: int) -> None:
    api = Api(one.socket)
    body = {"Image": "busybox", "Cmd": ["sleep", "1d"], "HostConfig": {"NetworkMode": "none"}}
    made = [api.ask("POST", "/containers/create", body)["Id"] for _ in range(count)]
    rows = {one.name: [timed(lambda: api.ask("GET", "/containers/json?all=1")) for _ in range(9)]}
    table(f"GET /containers/json with {count} containers", rows)
    for identifier in made:
        api.ask("DELETE", f"/containers/{identifier}")


def bench_memory(one: Contestant, count: int) -> None:
    print(f"\nmemory of {one.name}: idle {one.resident_mb():.1f} MB")
    made = [
        one.docker("run", "-d", *one.options, "busybox", "busybox", "sleep", "1d")
        .stdout.decode()
        .strip()
        for _ in range(count)
    ]
    print(f"memory of {one.name}: with {count} containers {one.resident_mb():.1f} MB")
    one.docker("rm", "-f", *made)


def _process_of(path: Path) -> int:
    """Who listens at `path`: SO_PEERCRED of a connection."""
    import socket
    import struct

    with socket.socket(socket.AF_UNIX) as found:
        found.connect(str(path))
        credentials = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", credentials)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="run,many,stats,logs,ps,memory")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--no-dockerd", action="store_true")
    options = parser.parse_args()
    wanted = options.only.split(",")
    folder = Path(tempfile.mkdtemp(prefix="lkb", dir="/tmp"))
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(labkit(folder))
            path = folder / "run" / "docker.sock"
            contestants = [Contestant("labkit", path, _process_of(path))]
            if shutil.which("dockerd") and os.geteuid() == 0 and not options.no_dockerd:
                stack.enter_context(dockerd(folder))
                path = folder / "dockerd.sock"
                contestants.append(Contestant("dockerd", path, _process_of(path)))
            if "memory" in wanted:
                bench_memory(contestants[0], 100)
            if "run" in wanted:
                bench_run(contestants, options.rounds)
            if "many" in wanted or "stats" in wanted:
                started = bench_many(contestants, options.containers)
                if "stats" in wanted:
                    bench_stats(contestants, 3)
                    bench_samples(contestants, started)
                bench_remove(contestants, started)
            if "logs" in wanted:
                bench_logs(contestants)
            if "ps" in wanted:
                bench_ps(contestants[0], 500)
    finally:
        with contextlib.suppress(http.client.HTTPException):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
