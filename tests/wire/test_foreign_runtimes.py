"""`docker run --runtime NAME`: another runtime makes the container, everything else stays."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import time

import pytest

from .conftest import Lab

pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize(
        "runtime",
        [
            pytest.param(
                name,
                marks=pytest.mark.skipif(
                    shutil.which(name) is None, reason=f"{name} is missing (Debian package {name})"
                ),
            )
            for name in ("crun", "runc")
        ],
    ),
]


def test_a_foreign_runtimes_container_is_like_any_other(lab: Lab, runtime: str) -> None:
    script = "echo out; echo err >&2; id -u; grep Seccomp: /proc/self/status; hostname; exit 7"
    done = lab.docker(
        *("run", "--rm", "--runtime", runtime, "--user", "5", "--hostname", "there"),
        *("busybox", "sh", "-c", script),
    )
    assert done.returncode == 7
    assert done.stdout.split() == ["out", "5", "Seccomp:", "2", "there"]
    assert done.stderr == "err\n"


def test_it_really_is_that_runtime(lab: Lab, runtime: str) -> None:
    assert runtime in lab.ok("info", "--format", "{{json .Runtimes}}")
    name = f"made-by-{runtime}"
    lab.ok("run", "-d", "--name", name, "--runtime", runtime, "busybox", "sleep", "1000")
    identifier = lab.ok("inspect", "-f", "{{.Id}}", name).strip()
    found = lab.paths.host_data("default") / "containers" / identifier / "shim/state"
    listed = subprocess.run(
        [runtime, "--root", str(found), "list", "-q"], capture_output=True, text=True, check=False
    )
    if "unified" not in listed.stderr:  # crun looks at nothing on a hybrid machine
        assert identifier in listed.stdout + listed.stderr or os.listdir(found) == [identifier]
    lab.ok("rm", "--force", name)
    assert not found.exists()


def test_it_lives_through_the_daemons_death(lab: Lab, runtime: str) -> None:
    name = f"lives-{runtime}"
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    lab.ok("run", "-d", "--name", name, "--runtime", runtime, "busybox", "sh", "-c", script)
    deadline = time.monotonic() + 60
    while lab.ok("logs", name) != "up\n":
        assert time.monotonic() < deadline
    lab.kill()
    lab.start()
    assert lab.ok("exec", name, "echo", "inside") == "inside\n"
    assert lab.docker("exec", name, "sh", "-c", "exit 4").returncode == 4
    lab.ok("pause", name)
    lab.ok("unpause", name)
    assert "sh -c" in lab.ok("top", name)
    lab.ok("stop", "-t", "60", name)
    assert lab.ok("inspect", "-f", "{{.State.ExitCode}} {{.HostConfig.Runtime}}", name) == (
        f"9 {runtime}\n"
    )
    lab.ok("rm", name)


def test_its_complaint_is_dockers_error(lab: Lab, runtime: str) -> None:
    done = lab.docker("run", "--rm", "--runtime", runtime, "busybox", "nosuch")
    assert done.returncode in (125, 127)
    assert f"OCI runtime create failed: {runtime} create failed: " in done.stderr
    assert "not found in $PATH" in done.stderr
    assert lab.ok("ps", "-aq") == ""


def test_its_terminal_is_the_containers_own(lab: Lab, runtime: str) -> None:
    master, slave = pty.openpty()
    words = [
        "run",
        "--rm",
        "-it",
        "--runtime",
        runtime,
        "busybox",
        "sh",
        "-c",
        "tty; read x; echo got $x",
    ]
    with subprocess.Popen(
        ["docker", *words], stdin=slave, stdout=slave, stderr=slave, env=lab.env
    ) as process:
        os.close(slave)
        text = b""
        while b"/dev/pts/0" not in text:
            text += os.read(master, 1000)
        os.write(master, b"words\n")
        while b"got words" not in text:
            text += os.read(master, 1000)
        assert process.wait(60) == 0
    os.close(master)


def test_an_unknown_runtime_is_refused(lab: Lab, runtime: str) -> None:
    done = lab.docker("create", "--runtime", f"{runtime}x", "busybox")
    assert f"unknown or invalid runtime name: {runtime}x" in done.stderr
