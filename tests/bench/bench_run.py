"""`busybox true`, started over and over: labkit beside crun, runc and Docker Engine.

    python -m tests.bench.bench_run [--rounds 30] [--gap-ms 120]

One round runs each contestant once (A B C A B C …), so that noise of the machine falls on all
alike; the table prints medians, quartiles and ratios and asserts nothing. labkit and Docker are
driven over their APIs: create, start, wait, remove, with network none and without keeping logs
open. crun and runc run a bundle with the same root file system and new namespaces. Pauses between
runs matter: back to back, a cgroup v1 attach hides its RCU wait.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

Run = Callable[[], None]


class Api:
    """A kept connection to an engine's socket, and a second one for the wait."""

    def __init__(self, path: Path) -> None:
        self._connections = [_Connection(path), _Connection(path)]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request on the first connection; the parsed answer."""
        return self._ask(self._connections[0], method, path, body)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
        return json.loads(text) if text.strip() else None

    def run_true(self) -> None:
        """Create, start, wait and remove one container."""
        made = self.ask(
            "POST",
            "/containers/create",
            {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}},
        )["Id"]
        waiting = self._connections[1]
        waiting.request("POST", f"/containers/{made}/wait?condition=next-exit")
        answer = waiting.getresponse()
        self.ask("POST", f"/containers/{made}/start")
        code = json.loads(answer.read())["StatusCode"]
        self.ask("DELETE", f"/containers/{made}")
        if code != 0:
            raise RuntimeError(f"busybox true ended with {code}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _await_socket(path: Path, process: subprocess.Popen[bytes], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _Connection(path)
            connection.request("GET", "/_ping")
            if connection.getresponse().read() == b"OK":
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing answers at {path}")


@contextlib.contextmanager
def labkit(folder: Path) -> Iterator[Run]:
    """A lab of its own."""
    env = {**os.environ, "LABKIT_HOME": str(folder / "home"), "LABKIT_RUN": str(folder / "run")}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit.daemon", "--log-level", "error"], env=env, cwd=ROOT
    )
    _await_socket(folder / "run" / "docker.sock", process)
    print(f"labkitd: first _ping after {(time.monotonic() - began) * 1e3:.0f} ms")
    api = Api(folder / "run" / "docker.sock")
    try:
        api._ask(_Connection(folder / "run" / "labkit.sock"), "GET", "/v1/status", None)
        with contextlib.suppress(json.JSONDecodeError):
            api.ask("POST", "/images/create?fromImage=docker.io/library/busybox&tag=latest")
        resident = Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]
        print(f"labkitd: resident {int(resident) / 1024:.1f} MB")
        yield api.run_true
        resident = Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]
        print(f"labkitd: resident afterwards {int(resident) / 1024:.1f} MB")
    finally:
        with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
            down = {"stop_containers": True}
            api._ask(_Connection(folder / "run" / "labkit.sock"), "POST", "/v1/shutdown", down)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def _bundle(folder: Path, runtime: str) -> Path:
    """An OCI bundle with busybox, and the namespaces Docker gives a container."""
    bundle = folder / f"bundle-{runtime}"
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    for name in ("proc", "dev", "sys", "tmp", "etc"):
        (bundle / "rootfs" / name).mkdir()
    shutil.copy2("/bin/busybox", bundle / "rootfs" / "bin" / "busybox")
    os.link(bundle / "rootfs" / "bin" / "busybox", bundle / "rootfs" / "bin" / "true")
    subprocess.run([runtime, "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"].update(terminal=False, args=["/bin/true"])
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


@contextlib.contextmanager
def low_level(folder: Path, runtime: str) -> Iterator[Run]:
    """crun or runc on a bundle."""
    bundle = _bundle(folder, runtime)
    # crun refuses a machine with both cgroup versions: show it one without the second.
    hide = "umount /sys/fs/cgroup/unified 2>/dev/null; " if runtime == "crun" else ""
    state = folder / f"state-{runtime}"
    script = f"{hide}exec {runtime} --root {state} run -b {bundle} bench-{os.getpid()}"
    prefix = ["unshare", "-m"] if hide else []

    def run() -> None:
        subprocess.run([*prefix, "sh", "-c", script], check=True, stdin=subprocess.DEVNULL)

    run()
    yield run


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[Run]:
    """Docker Engine with everything of its own, put away afterwards."""
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    was = forward.read_text()
    groups = set(Path("/sys/fs/cgroup").glob("*/docker"))
    path = folder / "dockerd.sock"
    words = [
        "dockerd", "--data-root", str(folder / "dockerd"), "--exec-root", str(folder / "exec"),
        "--pidfile", str(folder / "dockerd.pid"), "-H", f"unix://{path}", "--storage-driver",
        "overlay2", "--bridge", "none", "--iptables=false",
    ]  # fmt: skip
    with open(folder / "dockerd.log", "wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        _await_socket(path, process)
        root = folder / "root.tar"
        bundle = _bundle_tree(folder)
        subprocess.run(["tar", "-C", str(bundle), "-cf", str(root), "."], check=True)
        connection = _Connection(path)
        connection.request(
            "POST",
            "/images/create?fromSrc=-&repo=busybox&tag=latest",
            root.read_bytes(),
            {"Content-Type": "text/plain"},
        )
        connection.getresponse().read()
        yield Api(path).run_true
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        forward.write_text(was)
        # It leaves its empty control groups behind.
        for group in set(Path("/sys/fs/cgroup").glob("*/docker")) - groups:
            for child in [*sorted(group.glob("**/"), reverse=True), group]:
                with contextlib.suppress(OSError):
                    child.rmdir()


def _bundle_tree(folder: Path) -> Path:
    """A root file system with busybox as /bin/true, to import into Docker Engine."""
    tree = folder / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", tree / "bin" / "busybox")
    os.link(tree / "bin" / "busybox", tree / "bin" / "true")
    return tree


def _contestants(folder: Path, stack: contextlib.ExitStack) -> dict[str, Run]:
    found: dict[str, Run] = {"labkit": stack.enter_context(labkit(folder))}
    for runtime in ("crun", "runc"):
        if shutil.which(runtime) is None:
            print(f"{runtime}: left out, it is not installed")
        elif not Path("/bin/busybox").exists():
            print(f"{runtime}: left out, busybox-static is not installed")
        else:
            found[runtime] = stack.enter_context(low_level(folder, runtime))
    if shutil.which("dockerd") is None:
        print("dockerd: left out, package docker.io is not installed")
    elif os.geteuid() != 0:
        print("dockerd: left out, it needs root")
    else:
        found["dockerd"] = stack.enter_context(dockerd(folder))
    return found


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--gap-ms", type=float, default=120)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lkb", dir="/tmp"))
    times: dict[str, list[float]] = {}
    try:
        with contextlib.ExitStack() as stack:
            contestants = _contestants(folder, stack)
            for name, run in contestants.items():
                run()  # warm caches
                times[name] = []
            for _ in range(options.rounds):
                for name, run in contestants.items():
                    time.sleep(options.gap_ms / 1000)
                    began = time.perf_counter()
                    run()
                    times[name].append((time.perf_counter() - began) * 1000)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    base = statistics.median(times["labkit"])
    print(f"\n{'what':10} {'median ms':>10} {'quartiles':>17} {'labkit takes':>14}")
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:10} {middle:10.1f} {low:8.1f} {high:8.1f} {base / middle:13.2f}x")


if __name__ == "__main__":
    main()
