"""A full disk: what has happened shows, nothing hangs, and removing makes room again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.paths import LabPaths
from labkit.notebook import lifecycle
from labkit.notebook.client import Client, ensure_daemon
from labkit.notebook.commands.docker import main
from labkit.notebook.commands.surface import BufferSurface

pytestmark = pytest.mark.root


@pytest.fixture
def small(short_tmp: Path) -> Iterator[LabPaths]:
    """A lab on a disk of 24 MB."""
    if shutil.which("mount") is None:
        pytest.skip("mount is not installed")
    disk = short_tmp / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], check=True)
    paths = LabPaths(disk / "home", short_tmp / "run")
    paths.prepare()
    try:
        ensure_daemon(paths)
        yield paths
        lifecycle.take_down(paths)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def docker(paths: LabPaths, *words: str) -> tuple[int, BufferSurface]:
    surface = BufferSurface()
    client = Client(f"unix://{paths.docker_socket}", timeout_s=30)
    try:
        return main(list(words), client=client, surface=surface, cwd=Path("/")), surface
    finally:
        client.close()


def test_a_container_that_fills_the_disk_ends_and_can_be_removed(small: LabPaths) -> None:
    fill = "dd if=/dev/zero of=/big bs=1M count=100"
    code, surface = docker(small, "run", "--name", "hog", "busybox", "sh", "-c", fill)
    assert code == 1
    assert "No space left on device" in surface.stderr
    code, surface = docker(small, "ps", "-a", "--format", "{{.Names}} {{.State}}")
    assert surface.stdout == "hog exited\n"
    assert docker(small, "rm", "hog")[0] == 0
    code, surface = docker(small, "run", "--rm", "busybox", "echo", "room again")
    assert (code, surface.stdout) == (0, "room again\n")
