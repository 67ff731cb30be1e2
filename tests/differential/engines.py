"""The two engines: each of its own, with the same image, and nothing left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Answer", "Engine", "engines"]

ROOT = Path(__file__).resolve().parents[2]
_START_S = 40.0


@dataclass(frozen=True)
class Answer:
    """What one command line came to."""

    code: int
    out: str
    err: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Engine:
    """One engine by its socket; `folder` is its own place for files that commands name."""

    name: str
    socket: Path
    folder: Path

    def docker(self, *words: str, given: bytes | None = None) -> Answer:
        """Run the real client."""
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")},
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / "config"),
        }
        done = subprocess.run(
            ["docker", *words],
            env=env,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Answer(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode("utf-8")
        )

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request to the API: status, and JSON or text."""
        connection = _Connection(self.socket)
        with contextlib.closing(connection):
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text


def _await(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _Connection(path)
            connection.request("GET", "/_ping")
            if connection.getresponse().read() == b"OK":
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers at {path}")


@contextlib.contextmanager
def _labkit(folder: Path) -> Iterator[Engine]:
    env = {**os.environ, "LABKIT_HOME": str(folder / "home"), "LABKIT_RUN": str(folder / "run")}
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit.daemon", "--log-level", "error"], env=env, cwd=ROOT
    )
    engine = Engine("labkit", folder / "run" / "docker.sock", folder / "labkit")
    engine.folder.mkdir()
    try:
        _await(engine.socket, process)
        yield engine
    finally:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _Connection(folder / "run" / "labkit.sock")
            connection.request(
                "POST",
                "/v1/shutdown",
                json.dumps({"stop_containers": True}),
                {"Content-Type": "application/json"},
            )
            connection.getresponse().read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


@contextlib.contextmanager
def _dockerd(folder: Path) -> Iterator[Engine]:
    """Docker Engine in mount and network namespaces of its own: its bridges, firewall rules and
    mounts go with them. Its empty control groups do not, and are removed here."""
    groups = set(Path("/sys/fs/cgroup").glob("*/docker"))
    engine = Engine("dockerd", folder / "dockerd.sock", folder / "dockerd-files")
    engine.folder.mkdir()
    words = [
        "unshare", "--mount", "--net", "dockerd", "--data-root", str(folder / "dockerd"),
        "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "dockerd.pid"),
        "-H", f"unix://{engine.socket}", "--storage-driver", "overlay2",
    ]  # fmt: skip
    with open(folder / "dockerd.log", "wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        _await(engine.socket, process)
        yield engine
    finally:
        # unshare(1) has become dockerd: this is its process.
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for group in set(Path("/sys/fs/cgroup").glob("*/docker")) - groups:
            for child in [*sorted(group.glob("**/"), reverse=True), group]:
                with contextlib.suppress(OSError):
                    child.rmdir()


@contextlib.contextmanager
def engines(folder: Path) -> Iterator[tuple[Engine, Engine]]:
    """Docker Engine and labkit, both with the same busybox."""
    with _dockerd(folder) as theirs, _labkit(folder) as ours:
        done = ours.docker("pull", "-q", "busybox")
        if done.code:
            raise RuntimeError(done.err)
        archive = folder / "busybox.tar"
        for engine, words in ((ours, ("save", "-o")), (theirs, ("load", "-i"))):
            image = ("busybox",) if words[0] == "save" else ()
            done = engine.docker(*words, str(archive), *image)
            if done.code:
                raise RuntimeError(f"{engine.name}: {done.err}")
        archive.unlink()
        yield theirs, ours


def missing() -> str:
    """Why the comparison cannot run here; empty when it can."""
    for program in ("docker", "dockerd", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian package docker.io, util-linux)"
    return "" if os.geteuid() == 0 else "Docker Engine needs root"
