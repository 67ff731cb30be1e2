"""Machines and folders that do not let the lab be: each says what is wrong and what to try."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Lab


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="lkw", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _start(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labkit.daemon", "--detach", *words],
        env=lab.env, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_hollow_lab_pulls_and_creates_but_starts_nothing(folder: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    lab = Lab(folder)
    assert _start(lab, "--mode", "hollow").returncode == 0
    try:
        lab.ok("pull", "-q", "busybox")
        before = set(os.listdir("/proc"))
        done = lab.docker("run", "--name", "husk", "busybox", "sleep", "1d")
        assert done.returncode == 125
        assert "cannot start a process: this lab runs in hollow mode" in done.stderr
        assert lab.ok("ps", "-a", "--format", "{{.Names}} {{.State}}") == "husk created\n"
        status, answer = lab.request("POST", "/v1/boxes", {"name": "box"}, lab=True)
        assert (status, "hollow mode" in answer["message"]) == (501, True)
        _, told = lab.request("GET", "/v1/status", lab=True)
        assert told["mode"] == "hollow"
        assert not any(
            b"sleep\x001d" in _command_line(pid) for pid in set(os.listdir("/proc")) - before
        )
    finally:
        lab.request("POST", "/v1/shutdown", {"stop_containers": True}, lab=True)
    assert not [line for line in lab.leftovers() if not line.startswith(("process", "file"))]


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_folder_that_is_not_ours_is_refused(folder: Path) -> None:
    lab = Lab(folder)
    lab.paths.run.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(lab.paths.run, 65534, 65534)
    else:
        lab.paths.run.rmdir()
        lab.paths.run.symlink_to("/tmp")
    done = _start(lab)
    assert done.returncode != 0
    assert f"refusing {lab.paths.run}: it is not a folder owned by you" in done.stderr
    assert "try:" in done.stderr


def test_a_home_that_cannot_be_made_is_said_so(folder: Path) -> None:
    (folder / "home").write_text("a file is in the way")
    done = _start(Lab(folder))
    assert done.returncode != 0
    assert "labkitd: " in done.stderr
    assert str(folder / "home") in done.stderr
    assert "Traceback" not in done.stderr


def test_socket_paths_that_are_too_long_are_refused_with_a_way_out(folder: Path) -> None:
    lab = Lab(folder / ("x" * 100))
    done = _start(lab)
    assert done.returncode != 0
    assert "the path is too long for a unix socket" in done.stderr
    assert "LABKIT_RUN" in done.stderr


def test_a_mode_this_machine_does_not_have_is_refused(folder: Path) -> None:
    other = "rootless" if os.geteuid() == 0 else "rootful"
    lab = Lab(folder)
    done = subprocess.run(
        [sys.executable, "-m", "labkit.daemon", "--mode", other],
        env=lab.env, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"cannot run in mode {other}" in done.stderr
    assert not lab.leftovers()
