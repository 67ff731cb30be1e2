"""A Dockerfile of ten steps on busybox, cold and fully cached, at the API; beside buildah.

    python -m tests.bench.bench_build [--rounds 10]

One round builds cold and then cached with each contestant, so that noise of the machine falls on
all alike; the table prints medians and quartiles in ms and asserts nothing. labkit and dockerd are
driven over `POST /build`, with the same image and without a network; buildah (`buildah bud
--layers`, chroot isolation) as the program it is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .peers import Engine, dockerd, labkit_engine

DOCKERFILE = """FROM {base}
ENV ROUND={round}
RUN echo one > /one
WORKDIR /app
COPY a.txt ./
RUN cat a.txt > b.txt
COPY . /all/
RUN mkdir -p /data && echo two > /data/two
EXPOSE 80
LABEL bench=1
CMD ["cat", "/one"]
"""

Build = Callable[[int], None]


def files(base: str, number: int) -> dict[str, bytes]:
    """The context of one round: the number makes it new to every cache."""
    found = {f"d/f{index}": bytes([index]) * 4096 for index in range(20)}
    text = DOCKERFILE.format(base=base, round=number)
    return {"Dockerfile": text.encode(), "a.txt": b"a" * 1000, **found}


def over_api(engine: Engine) -> Build:
    """A build that sends a round's context and reads the stream to its end."""

    def build(number: int) -> None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for name, content in files("busybox", number).items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        answer = engine.api.ask(
            "POST", "/build?t=bench&version=1&networkmode=none", data.getvalue()
        )
        assert b"Successfully built" in answer

    return build


@contextlib.contextmanager
def engines() -> Iterator[dict[str, Build]]:
    """A lab with busybox, and dockerd with that same image where it is installed."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(labkit_engine())
        lab.api.ask("POST", "/images/create?fromImage=busybox&tag=latest")
        found = {"labkit": over_api(lab)}
        try:
            other = stack.enter_context(dockerd())
            other.api.ask("POST", "/images/load?quiet=1", lab.api.ask("GET", "/images/busybox/get"))
            found["dockerd"] = over_api(other)
        except RuntimeError as error:
            print(f"left out: {error}")
        yield found


@contextlib.contextmanager
def buildah() -> Iterator[tuple[str, Build]]:
    """buildah with storage of its own; its base is this machine's static busybox."""
    busybox = shutil.which("busybox")
    if shutil.which("buildah") is None or busybox is None:
        raise RuntimeError("buildah or busybox is not installed")
    folder = Path(tempfile.mkdtemp(prefix="lkb", dir="/tmp"))
    storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run")]

    def run(*words: str) -> None:
        done = subprocess.run(["buildah", *storage, *words], capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"buildah {words[0]}: {done.stderr.decode()[-300:]}")

    def context(number: int, name: str, content: dict[str, bytes]) -> Path:
        path = folder / f"{name}-{number}"
        for file, data in content.items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_bytes(data)
        return path

    def build(number: int) -> None:
        path = folder / f"context-{number}"
        if not path.exists():
            path = context(number, "context", files("localhost/base", number))
        run("bud", "--layers", "--isolation", "chroot", "-t", "bench", str(path))

    try:
        text = 'FROM scratch\nCOPY busybox /bin/busybox\nENV PATH=/bin\nCMD ["sh"]\n'
        base = context(0, "base", {"Dockerfile": text.encode()})
        shutil.copy(busybox, base / "busybox")
        for name in ("sh", "cat", "mkdir"):
            (base / name).symlink_to("busybox")
        (base / "Dockerfile").write_text(text.replace("ENV", "COPY sh cat mkdir /bin/\nENV"))
        run("bud", "-t", "localhost/base", str(base))
        yield "buildah", build
        run("rmi", "-a", "-f")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def timed(build: Build, number: int) -> float:
    """Milliseconds of one build."""
    start = time.perf_counter()
    build(number)
    return (time.perf_counter() - start) * 1000


def shown(times: list[float]) -> str:
    """Median and quartiles."""
    if len(times) < 2:
        return f"{times[0]:8.1f}"
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:8.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with contextlib.ExitStack() as stack:
        contestants = dict(stack.enter_context(engines()))
        try:
            name, build = stack.enter_context(buildah())
            contestants[name] = build
        except RuntimeError as error:
            print(f"left out: {error}")
        times: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):
            for name, build in contestants.items():
                for kind in ("cold", "cached"):
                    found = timed(build, number)
                    if number:  # the first round warms up
                        times.setdefault((name, kind), []).append(found)
    print(f"{'':10}{'cold ms':>30}{'cached ms':>30}")
    for name in contestants:
        print(f"{name:10}{shown(times[name, 'cold']):>30}{shown(times[name, 'cached']):>30}")
    for kind in ("cold", "cached"):
        best = min(statistics.median(times[name, kind]) for name in contestants if name != "labkit")
        ratio = statistics.median(times["labkit", kind]) / best
        print(f"{kind}: {ratio:.3f} of the better one's time")
    print(
        json.dumps(
            {f"{name} {kind}": statistics.median(found) for (name, kind), found in times.items()}
        )
    )


if __name__ == "__main__":
    main()
