"""`--group NAME`: its members reach docker.sock, and nothing else of the lab."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time

import pytest

from .conftest import Lab

GID = 54321


@pytest.mark.root
def test_members_of_the_group_reach_docker_but_not_the_lab(lab: Lab) -> None:
    """On this module's lab, started again with a group."""
    assert lab.process is not None
    lab.process.terminate()
    lab.process.wait(20)
    lab.process = subprocess.Popen(
        [sys.executable, "-m", "labkit.daemon", "--group", str(GID)],
        env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if lab.request("GET", "/_ping")[0] == 200:
                break
        time.sleep(0.02)
    found = lab.paths.docker_socket.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, GID)
    assert stat.S_IMODE(lab.paths.lab_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(lab.paths.run.stat().st_mode) == 0o710
    assert stat.S_IMODE(lab.paths.home.stat().st_mode) == 0o700
    lab.folder.chmod(0o755)

    def ask(gid: int, path: str) -> int:
        script = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        return subprocess.run(
            ["/usr/bin/python3", "-c", script, path],
            user=65534, group=gid, extra_groups=[], capture_output=True, check=False,
        ).returncode  # fmt: skip

    if not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip("/usr/bin/python3 is not installed")
    assert ask(GID, str(lab.paths.docker_socket)) == 0
    assert ask(GID, str(lab.paths.lab_socket)) != 0
    assert ask(65534, str(lab.paths.docker_socket)) != 0


@pytest.mark.root
def test_a_group_that_does_not_exist_is_an_error_before_anything_starts(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labkit.daemon", "--group", "no-such-group-here"],
        env=lab.env, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert "there is no group no-such-group-here" in done.stderr
    assert "groupadd" in done.stderr
