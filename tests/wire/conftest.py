"""A lab of its own for each module of tests, driven through its sockets like any client does.

When the module ends the lab is taken down, and the fixture asserts that it left nothing: no
process, no control group, no mount, no socket.
"""

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
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import LabkitError
from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import stop_anchor
from labkit.host.isolation.cgroups import CgroupDriver

ROOT = Path(__file__).resolve().parents[2]
START_S = 20.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("lab", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass
class Lab:
    """A private lab: `start`, use, `down`."""

    folder: Path
    paths: LabPaths = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.paths = LabPaths(self.folder / "home", self.folder / "run")

    @property
    def env(self) -> dict[str, str]:
        """What every program of this lab sees: its folders, its socket, no configuration."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "LABKIT_"))},
            **{k: os.environ[k] for k in ("LABKIT_SHIM",) if k in os.environ},
            "LABKIT_HOME": str(self.paths.home),
            "LABKIT_RUN": str(self.paths.run),
            "DOCKER_HOST": f"unix://{self.paths.docker_socket}",
            "DOCKER_CONFIG": str(self.folder / "docker-config"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> None:
        """Start the daemon and wait for its first answer."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "labkit.daemon", "--log-level", "debug"],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                if self.request("GET", "/v1/status", lab=True)[0] == 200:
                    return
            assert self.process.poll() is None, f"the daemon ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"the daemon does not answer:\n{self.log()}"
            time.sleep(0.02)

    def request(
        self, method: str, path: str, body: Any = None, *, lab: bool = False
    ) -> tuple[int, Any]:
        """One request: status and parsed JSON (or text)."""
        connection = _Connection(self.paths.lab_socket if lab else self.paths.docker_socket)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def docker(
        self, *words: str, given: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the real client to its end."""
        return subprocess.run(
            ["docker", *words],
            env=self.env,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ok(self, *words: str, given: str | None = None, timeout_s: float = 60) -> str:
        """The client's stdout; it must succeed."""
        done = self.docker(*words, given=given, timeout_s=timeout_s)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}{self.log()}"
        return done.stdout

    def log(self) -> str:
        """The end of the daemon's log, for messages of failing tests."""
        with contextlib.suppress(OSError):
            return "\n--- labkitd.log\n" + self.paths.daemon_log.read_text()[-4000:]
        return ""

    def kill(self) -> None:
        """kill -9 the daemon."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def down(self) -> None:
        """`labkit down`, as its API does it."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.start()
        status, answer = self.request("POST", "/v1/shutdown", {"stop_containers": True}, lab=True)
        assert status == 200, answer
        assert self.process.wait(60) == 0, self.log()

    # -- what must not be there afterwards -------------------------------------------------------

    def leftovers(self) -> list[str]:
        """Processes, groups, mounts and sockets of this lab that still exist."""
        return [*self._processes(), *self._groups(), *self._mounts(), *self._sockets()]

    def _processes(self) -> list[str]:
        marks = (os.fsencode(self.paths.home), f"labkit/{self.paths.instance}".encode())
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes() + (entry / "cgroup").read_bytes()
                if any(mark in text for mark in marks):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"process {entry.name} {words}")
        return found

    def _groups(self) -> list[str]:
        base = Path("/sys/fs/cgroup")
        patterns = (f"labkit/{self.paths.instance}", f"*/labkit/{self.paths.instance}")
        return [f"cgroup {path}" for pattern in patterns for path in base.glob(pattern)]

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [f"mount {line}" for line in lines if str(self.folder) in line]

    def _sockets(self) -> list[str]:
        names = (self.paths.docker_socket, self.paths.lab_socket, self.paths.pid_file)
        return [f"file {path}" for path in names if path.exists()]


@contextlib.contextmanager
def private_lab() -> Iterator[Lab]:
    """A started lab; taken down and looked for at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lkw", dir="/tmp"))
    lab = Lab(folder)
    try:
        lab.start()
        _, status = lab.request("GET", "/v1/status", lab=True)
        if status["mode"] == "hollow":
            lab.down()
            pytest.skip("no containers here: " + "; ".join(status["warnings"]))
        yield lab
        lab.down()
        assert not lab.leftovers()
    finally:
        if lab.process is not None and lab.process.poll() is None:
            lab.process.kill()
            lab.process.wait()
        # After a failure nothing may stay behind either, whatever state the daemon was in.
        with contextlib.suppress(LabkitError):
            stop_anchor(lab.paths)
            groups = CgroupDriver(lab.paths.instance)
            groups.clean()
            groups.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """This module's lab, with busybox."""
    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    with private_lab() as lab:
        lab.ok("pull", "-q", "busybox")
        yield lab


@pytest.fixture
def clean_lab(lab: Lab) -> Iterator[Lab]:
    """The module's lab, without containers before and after."""
    yield lab
    identifiers = lab.ok("ps", "-aq").split()
    if identifiers:
        lab.ok("rm", "-f", *identifiers)
