"""What the image benchmarks compare: a lab, dockerd, docker-registry, each for a while."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Api", "Engine", "daemon", "dockerd", "labkit_engine", "registry"]

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0


class Api:
    """An engine's socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def answer(
        self, method: str, path: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("engine", timeout=120)
        with contextlib.closing(connection):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self._path))
            headers = {"Content-Type": "application/x-tar"} if body is not None else {}
            connection.request(method, path, body, {**headers, "X-Registry-Auth": "e30="})
            yield connection.getresponse()

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The whole answer; raises RuntimeError for one that says no."""
        with self.answer(method, path, body) as answer:
            text = answer.read()
        if answer.status >= 400 or b'"errorDetail"' in text:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[-500:]!r}")
        return text


class Engine:
    """A running engine: its API, its process."""

    def __init__(self, name: str, api: Api, pid: int) -> None:
        self.name = name
        self.api = api
        self.pid = pid

    def memory_kb(self, field: str) -> int:
        """A line of /proc/PID/status, such as VmRSS or VmHWM (the peak)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise RuntimeError(f"no {field} for process {self.pid}")

    def forget_peak(self) -> None:
        """The peak counts from here."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def daemon(
    words: list[str], env: dict[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for a while, ended by signal; its output goes to `log`."""
    with open(log or os.devnull, "wb") as file:
        process = subprocess.Popen(words, env=env, stdout=file, stderr=file)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait(api: Api, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            api.ask("GET", "/_ping")
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not answer")
        time.sleep(0.05)


@contextlib.contextmanager
def labkit_engine() -> Iterator[Engine]:
    """A lab of its own."""
    folder = Path(tempfile.mkdtemp(prefix="lkb", dir="/tmp"))
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LABKIT_")},
        "LABKIT_HOME": str(folder / "home"),
        "LABKIT_RUN": str(folder / "run"),
        "PYTHONPATH": str(ROOT),
    }
    try:
        with daemon([sys.executable, "-m", "labkit.daemon"], env) as process:
            api = Api(folder / "run" / "docker.sock")
            _wait(api, process)
            yield Engine("labkit", api, process.pid)
            Api(folder / "run" / "labkit.sock").ask("POST", "/v1/shutdown")
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def dockerd() -> Iterator[Engine]:
    """Docker's own daemon, without a bridge or rules that would outlive it."""
    if shutil.which("dockerd") is None:
        raise RuntimeError("dockerd is not installed")
    folder = Path(tempfile.mkdtemp(prefix="lkd", dir="/tmp"))
    words = [
        *("dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"),
        *("--ip-forward=false", "--ip-masq=false", "--storage-driver=overlay2"),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--pidfile", str(folder / "pid"), "-H", f"unix://{folder}/d.sock"),
    ]
    try:
        with daemon(words, log=folder / "log") as process:
            api = Api(folder / "d.sock")
            _wait(api, process)
            yield Engine("dockerd", api, process.pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def registry() -> Iterator[tuple[str, Path]]:
    """docker-registry on a port of its own: `127.0.0.1:PORT` and its storage folder."""
    program = shutil.which("docker-registry")
    if program is None:
        raise RuntimeError("docker-registry is not installed")
    folder = Path(tempfile.mkdtemp(prefix="lkr", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    try:
        with daemon([program, "serve", str(config)]):
            deadline = time.monotonic() + START_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError("docker-registry does not answer")
                time.sleep(0.05)
            yield f"127.0.0.1:{port}", folder / "data"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
