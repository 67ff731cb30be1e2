"""Whatever is killed at whatever moment: the lab comes up again, and down leaves nothing.

Victims are the daemon, a shim, a container's first process and the anchor, killed with SIGKILL at
random moments while containers come and go. LABKIT_TEST_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Lab, private_lab

VICTIMS = ("daemon", "shim", "init", "anchor")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab for one test, with busybox and without the docker client."""
    with private_lab() as lab:
        status, answer = lab.request("POST", "/images/create?fromImage=busybox&tag=latest")
        assert status == 200, answer
        yield lab


def labkit(lab: Lab, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", *words],
        env=lab.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"labkit {' '.join(words)}: {done.stderr}{lab.log()}"
    return done.stdout


class Traffic(threading.Thread):
    """Containers that come and go until told to stop; errors are what the test provokes."""

    def __init__(self, lab: Lab, seed: int) -> None:
        super().__init__(daemon=True)
        self.lab, self.random, self.over = lab, random.Random(seed), threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._one()
            time.sleep(0.01)

    def _one(self) -> None:
        command = self.random.choice((["true"], ["sleep", "60"], ["sh", "-c", "echo x; exit 3"]))
        body = {"Image": "busybox", "Cmd": command, "StopTimeout": 1}
        status, made = self.lab.request("POST", "/containers/create", body)
        if status != 201:
            return
        self.lab.request("POST", f"/containers/{made['Id']}/start")
        if self.random.random() < 0.5:
            self.lab.request("DELETE", f"/containers/{made['Id']}?force=1")


def anchor_pid(lab: Lab) -> int:
    record = lab.paths.host_data().parent / "anchor.json"
    return int(json.loads(record.read_text())["pid"])


def daemon_pid(lab: Lab) -> int:
    return int(json.loads(lab.paths.pid_file.read_text())["pid"])


def pick(lab: Lab, victim: str, rng: random.Random) -> int | None:
    """The pid of a process of that kind, if there is one just now."""
    if victim == "daemon":
        return daemon_pid(lab)
    if victim == "anchor":
        return anchor_pid(lab)
    found = []
    for folder, _, files in os.walk(lab.paths.host_data() / "containers"):
        if "shim.json" not in files:
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):
            identity = json.loads(Path(folder, "shim.json").read_text())
            found.append(int(identity["pid" if victim == "shim" else "init_pid"]))
    return rng.choice(found) if found else None


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def processes_in(namespace: int) -> list[str]:
    """Processes in a mount namespace, as far as we may look."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.stat(entry / "ns/mnt").st_ino == namespace:
                found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
    return found


@pytest.mark.parametrize("victim", VICTIMS)
def test_after_a_kill_the_lab_comes_up_and_down_leaves_nothing(lab: Lab, victim: str) -> None:
    seed = int(os.environ.get("LABKIT_TEST_SEED", "0")) or random.randrange(1 << 32)
    print(f"LABKIT_TEST_SEED={seed}")
    rng = random.Random(seed)
    for _ in range(3):
        # Held open, because the number of a namespace that has ended is given to another.
        host = os.open(f"/proc/{anchor_pid(lab)}/ns/mnt", os.O_RDONLY)
        traffic = Traffic(lab, rng.randrange(1 << 32))
        traffic.start()
        time.sleep(rng.uniform(0.1, 1.0))
        pid = pick(lab, victim, rng)
        if pid is not None:
            kill(pid)
        time.sleep(rng.uniform(0, 0.3))
        traffic.over.set()
        traffic.join(60)
        if victim == "anchor" and rng.random() < 0.5:
            kill(daemon_pid(lab))  # both: only shims and containers are left of the lab
        if rng.random() < 0.7:
            labkit(lab, "up")
            status, listed = lab.request("GET", "/containers/json?all=1")
            assert status == 200, listed
            assert all(one["State"] in ("running", "exited", "created") for one in listed)
        labkit(lab, "down")
        assert lab.process is not None
        lab.process.wait(30)
        assert not lab.leftovers()
        assert not processes_in(os.fstat(host).st_ino)
        os.close(host)
        labkit(lab, "up")
    for one in lab.request("GET", "/containers/json?all=1")[1]:
        assert lab.request("DELETE", f"/containers/{one['Id']}?force=1")[0] == 204
    data = lab.paths.host_data()
    assert not list((data / "containers").iterdir()), "folders of removed containers"
    labkit(lab, "down")
    assert not lab.leftovers()
    labkit(lab, "reset", "-f")
    assert not lab.paths.home.exists()
    assert not lab.paths.run.exists()
    lab.start()  # for the fixture, which takes it down once more


def test_containers_cost_the_daemon_no_descriptor_for_ever(lab: Lab) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon_pid(lab)}/fd"))

    def one() -> None:
        status, made = lab.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})  # fmt: skip  # noqa: E501
        assert status == 201, made
        assert lab.request("POST", f"/containers/{made['Id']}/start")[0] == 204
        assert lab.request("POST", f"/containers/{made['Id']}/wait")[0] == 200
        assert lab.request("DELETE", f"/containers/{made['Id']}")[0] == 204

    one()
    before = descriptors()
    for _ in range(10):
        one()
    deadline = time.monotonic() + 5
    while descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors() <= before
