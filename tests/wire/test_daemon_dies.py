"""kill -9 of the daemon loses no container, no log line and no exit code."""

from __future__ import annotations

import os
import subprocess
import time

from .conftest import Lab, private_lab

COUNT = 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.02; done'


def _pid(lab: Lab, name: str) -> int:
    return int(lab.ok("inspect", "-f", "{{.State.Pid}}", name))


def test_everything_is_there_after_the_daemon_was_killed(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "counts", "busybox", "sh", "-c", COUNT)
    lab.ok("run", "-d", "--name", "waits", "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 7")  # fmt: skip  # noqa: E501
    lab.ok("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 0.4; echo last words; exit 3")  # fmt: skip  # noqa: E501
    lab.ok("create", "--name", "made", "busybox", "true")
    pids = {name: _pid(lab, name) for name in ("counts", "waits")}
    lab.kill()
    for pid in pids.values():
        os.kill(pid, 0)  # they never noticed
    time.sleep(0.8)  # "ends" ends while nobody looks
    lab.start()

    states = dict(
        line.split()
        for line in lab.ok("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    )
    assert states == {"counts": "running", "waits": "running", "ends": "exited", "made": "created"}
    assert {name: _pid(lab, name) for name in pids} == pids
    assert lab.ok("inspect", "-f", "{{.State.ExitCode}}", "ends") == "3\n"
    assert lab.ok("logs", "ends") == "last words\n"

    lines = lab.ok("logs", "counts").splitlines()
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert len(lines) > 20

    lab.ok("exec", "waits", "touch", "/go")
    assert lab.ok("wait", "waits") == "7\n"
    lab.ok("stop", "-t", "0", "counts")
    assert lab.ok("inspect", "-f", "{{.State.ExitCode}}", "counts") == "137\n"
    assert lab.ok("start", "-a", "made") == ""
    lab.ok("rm", "-f", "counts", "waits", "ends", "made")


def test_an_ordinary_end_of_the_daemon_leaves_containers_running(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "stays", "busybox", "sleep", "1d")
    pid = _pid(lab, "stays")
    assert lab.process is not None
    lab.process.terminate()
    assert lab.process.wait(20) == 0
    assert not lab.paths.docker_socket.exists()
    os.kill(pid, 0)
    lab.start()
    assert _pid(lab, "stays") == pid
    lab.ok("rm", "-f", "stays")


def test_a_second_daemon_says_who_runs_and_leaves(lab: Lab) -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "labkit.daemon"],
        env=lab.env, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert lab.process is not None
    assert f"already running for {lab.paths.home} (pid {lab.process.pid})" in done.stderr
    assert lab.ok("version")


def test_down_stops_containers_that_survived_their_daemon() -> None:
    """The fixture's own assertion: nothing is left although the daemon was killed before."""
    import shutil

    import pytest

    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    with private_lab() as lab:
        lab.ok("pull", "-q", "busybox")
        lab.ok("run", "-d", "busybox", "sleep", "1d")
        lab.kill()
