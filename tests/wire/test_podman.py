"""podman runs its containers on labkit-oci: conmon starts them, podman looks after them."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.mounted_root]

TOP = Path(__file__).resolve().parents[2]
# Root may not raise these everywhere; podman would ask for more than there is.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none")


class Podman:
    """podman with storage, state and a runtime of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "labkit-oci"
        self.runtime.write_text(
            f'#!/bin/sh\nPYTHONPATH={TOP} exec {sys.executable} -m labkit.host.isolation.oci "$@"\n'
        )
        self.runtime.chmod(0o755)
        tar = folder / "image.tar"
        busybox = shutil.which("busybox")
        assert busybox is not None
        with tarfile.open(tar, "w") as archive:
            archive.add(busybox, "bin/busybox")
            for name in ["sh", "cat", "echo", "id", "ps", "sleep", "grep", "true", "hostname"]:
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        self("import", str(tar), "tiny")

    def words(self, *words: str) -> list[str]:
        folders = [f"--{name}={self.folder / name}" for name in ("root", "runroot", "tmpdir")]
        ways = ["--cgroup-manager=cgroupfs", "--events-backend=file", f"--runtime={self.runtime}"]
        return ["podman", *folders, *ways, "--storage-driver=vfs", *words]

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(*words), capture_output=True, text=True, check=False, timeout=120
        )
        assert not check or done.returncode == 0, (words, done.returncode, done.stderr)
        return done

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self("run", "--rm", *LIMITS, *words, check=False)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    if shutil.which("podman") is None or shutil.which("conmon") is None:
        pytest.skip("podman or conmon is missing (Debian packages podman, conmon)")
    if shutil.which("busybox") is None:
        pytest.skip("busybox is missing (Debian package busybox-static)")
    folder = Path(tempfile.mkdtemp(prefix="pm", dir="/tmp"))  # podman wants a short run root
    try:
        made = Podman(folder)
        yield made
        made("rm", "--all", "--force", "--time", "0")
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_podman_run_gives_output_and_exit_code(podman: Podman) -> None:
    done = podman.run("tiny", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")


def test_podman_knows_a_missing_program_by_its_sentence(podman: Podman) -> None:
    done = podman.run("tiny", "nosuch")
    assert done.returncode == 127
    assert "executable file not found in $PATH" in done.stderr


def test_podmans_limits_and_identity_arrive(podman: Podman) -> None:
    script = "id -u; grep CapEff /proc/self/status; hostname; cat /proc/sys/kernel/shmmax"
    done = podman.run(
        *("--user", "7:8", "--cap-drop", "all", "--hostname", "here"),
        *("--sysctl", "kernel.shmmax=123456", "tiny", "sh", "-c", script),
    )
    assert done.stdout.split() == ["7", "CapEff:", "0" * 16, "here", "123456"], done.stderr


def test_podmans_readonly_root_and_volumes_hold(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the machine\n")
    script = "cat /v/file; echo x > /v/new; echo x > /new; echo y > /t/new && cat /t/new"
    done = podman.run(
        *("--read-only", "-v", f"{tmp_path}:/v:ro", "--tmpfs", "/t"), "tiny", "sh", "-c", script
    )
    assert done.stdout == "of the machine\ny\n"
    assert done.stderr.count("Read-only file system") == 2


def test_podmans_terminal_is_the_containers_own(podman: Podman) -> None:
    master, slave = pty.openpty()
    words = podman.words(
        "run", "--rm", "-it", *LIMITS, "tiny", "sh", "-c", "busybox tty; read x; echo got $x"
    )
    with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        text = b""
        while b"/dev/pts/0" not in text:
            text += os.read(master, 1000)
        os.write(master, b"words\n")
        while b"got words" not in text:
            text += os.read(master, 1000)
        assert process.wait(60) == 0
    os.close(master)


def test_a_podman_container_lives_is_looked_at_and_ends(podman: Podman) -> None:
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    podman("run", "-d", "--name", "long", *LIMITS, "tiny", "sh", "-c", script)
    deadline = time.monotonic() + 60
    while podman("logs", "long").stdout != "up\n":
        assert time.monotonic() < deadline
    assert podman("exec", "long", "echo", "inside").stdout == "inside\n"
    assert podman("exec", "long", "sh", "-c", "exit 4", check=False).returncode == 4
    assert "sh -c" in podman("top", "long").stdout
    podman("pause", "long")
    assert podman("inspect", "long", "--format", "{{.State.Status}}").stdout == "paused\n"
    podman("unpause", "long")
    podman("stop", "--time", "60", "long")
    assert podman("inspect", "long", "--format", "{{.State.ExitCode}}").stdout == "9\n"
    podman("start", "long")
    podman("kill", "long")
    podman("rm", "--force", "--time", "0", "long")


def test_podman_maps_users(podman: Podman) -> None:
    done = podman.run(
        "--uidmap", "0:100000:5000", "tiny", "sh", "-c", "id -u; cat /proc/self/uid_map"
    )
    assert done.stdout.split() == ["0", "0", "100000", "5000"], done.stderr
