"""A Dockerfile of ten steps on busybox, cold and fully cached, at the API; beside buildah.

    python -m tests.bench.bench_build [--rounds 10]

One round builds cold and then cached with each contestant, so that noise of the machine falls on
all alike; the table prints medians and quartiles in ms and asserts nothing. labkit is driven over
`POST /build`; buildah (`buildah bud --layers`, chroot isolation) as the program it is, where it
is installed and can make busybox's image.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 20.0

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


class Api:
    """An engine's socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request on a connection of its own; the whole answer."""
        connection = http.client.HTTPConnection("lab", timeout=120)
        with contextlib.closing(connection):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self._path))
            headers = {"Content-Type": "application/x-tar"} if body is not None else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 400 or b'"errorDetail"' in text:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[-500:]!r}")
        return text

    def build(self, number: int) -> None:
        """Send round `number`'s context and read the stream to its end."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for name, content in files("busybox", number).items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        answer = self.ask("POST", "/build?t=bench", data.getvalue())
        assert b"Successfully built" in answer


@contextlib.contextmanager
def labkit() -> Iterator[tuple[str, Build]]:
    """A lab of its own with busybox."""
    folder = Path(tempfile.mkdtemp(prefix="lkb", dir="/tmp"))
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LABKIT_")},
        "LABKIT_HOME": str(folder / "home"),
        "LABKIT_RUN": str(folder / "run"),
        "PYTHONPATH": str(ROOT),
    }
    words = [sys.executable, "-m", "labkit.daemon"]
    process = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL)
    try:
        api = Api(folder / "run" / "docker.sock")
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                api.ask("GET", "/_ping")
                break
            if time.monotonic() > deadline:
                raise RuntimeError("the lab does not answer")
            time.sleep(0.05)
        api.ask("POST", "/images/create?fromImage=busybox&tag=latest")
        yield "labkit", api.build
        Api(folder / "run" / "labkit.sock").ask("POST", "/v1/shutdown")
        process.wait(30)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


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
        contestants: dict[str, Build] = {}
        for enter in (labkit, buildah):
            try:
                name, build = stack.enter_context(enter())
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
    print(
        json.dumps(
            {f"{name} {kind}": statistics.median(found) for (name, kind), found in times.items()}
        )
    )


if __name__ == "__main__":
    main()
