"""At a terminal of its own, our client does and prints what the real one does, byte for byte."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from .conftest import Lab

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")

REAL = ["docker"]
OURS = [sys.executable, "-m", "labkit.cli", "docker"]
PROMPT = b"/ # \x1b[6n"
LOOP = 'trap "echo got; exit 5" INT; echo up; while :; do sleep 0.1; done'
# What runs before, the words, and the steps: wait for this output, then type that.
SESSIONS: dict[str, tuple[str, list[str], list[tuple[bytes, bytes]]]] = {
    "an exit code": (
        "",
        ["run", "--rm", "-it", "alpine", "sh"],
        [(PROMPT, b"stty size\n"), (b"30 90\r\n" + PROMPT, b"exit 4\n")],
    ),
    "detaching from run": (
        "rm -f q1",
        ["run", "-it", "--name", "q1", "alpine", "sh"],
        [(PROMPT, b"echo hi\n"), (b"hi\r\n" + PROMPT, b"\x10\x11")],
    ),
    "detach keys of one's own": (
        "rm -f q1",
        ["run", "-it", "--name", "q1", "--detach-keys", "ctrl-a,d", "alpine", "sh"],
        [(PROMPT, b"\x10\x11echo hi\n"), (b"hi\r\n" + PROMPT, b"\x01d")],
    ),
    "ctrl-c goes inside": (
        "",
        ["run", "--rm", "-it", "alpine", "sh", "-c", "trap : INT; cat; exit 7"],
        [(b"", b"line\n"), (b"line\r\nline\r\n", b"\x03")],
    ),
    "ctrl-c without a terminal inside": (
        "",
        ["run", "--rm", "alpine", "sh", "-c", LOOP],
        [(b"up\r\n", b"\x03")],
    ),
    "leaving an exec": (
        "rm -f q2 ;; run -d --name q2 alpine sleep 1000",
        ["exec", "-it", "q2", "sh"],
        [(PROMPT, b"echo x\n"), (b"x\r\n" + PROMPT, b"\x10\x11")],
    ),
    "leaving an attach": (
        "rm -f q3 ;; run -dit --name q3 alpine cat",
        ["attach", "q3"],
        [(b"", b"line\n"), (b"line\r\nline\r\n", b"\x10\x11")],
    ),
    "starting again, attached": (
        "rm -f q4 ;; create -it --name q4 alpine sh",
        ["start", "-ai", "q4"],
        [(PROMPT, b"exit 6\n")],
    ),
    "a question answered": (
        "",
        ["container", "prune", "--filter", "label=nosuch"],
        [(b"[y/N] ", b"n\n")],
    ),
    "a question broken off": (
        "",
        ["container", "prune", "--filter", "label=nosuch"],
        [(b"[y/N] ", b"\x03")],
    ),
    "following logs until ctrl-c": (
        "rm -f q5 ;; run -d --name q5 alpine sh -c 'echo said; sleep 1000'",
        ["logs", "-f", "q5"],
        [(b"said\r\n", b"\x03")],
    ),
}


def _prepare(lab: Lab, commands: str) -> None:
    import shlex

    for command in filter(None, commands.split(" ;; ")):
        subprocess.run(["docker", *shlex.split(command)], env=lab.env, capture_output=True)


def _converse(lab: Lab, argv: list[str], steps: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Exit status and output of a program at a terminal of 30 lines and 90 columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    setup = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    process = subprocess.Popen(
        [sys.executable, "-c", setup + "os.execvp(sys.argv[1], sys.argv[1:])", *argv],
        stdin=slave, stdout=slave, stderr=slave, env={**lab.env, "PATH": os.environ["PATH"]},
    )  # fmt: skip
    os.close(slave)
    seen = b""
    at = 0
    deadline = time.monotonic() + 60
    try:
        pending = list(steps)
        while time.monotonic() < deadline:
            if pending and pending[0][0] in seen[at:]:
                at += seen[at:].index(pending[0][0]) + len(pending[0][0])
                _settle(master, process, pending[0][0])
                os.write(master, pending.pop(0)[1])
            ready, _, _ = select.select([master], [], [], 0.1)
            if ready:
                try:
                    data = os.read(master, 1 << 16)
                except OSError:  # the other end is closed
                    break
                seen += data
        assert not pending, (argv, pending, seen)
        return process.wait(30), seen
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
        os.close(master)


def _settle(master: int, process: subprocess.Popen[bytes], expected: bytes) -> None:
    """Where no output says so, wait until the client has made its terminal raw."""
    while not expected and process.poll() is None and termios.tcgetattr(master)[3] & termios.ICANON:
        time.sleep(0.02)


@pytest.mark.slow  # two clients at two terminals, byte for byte: a busy machine reorders them
@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_at_a_terminal(lab: Lab, name: str) -> None:
    before, words, steps = SESSIONS[name]
    _prepare(lab, "pull -q alpine")
    _prepare(lab, before)
    real = _converse(lab, [*REAL, *words], steps)
    _prepare(lab, before)
    ours = _converse(lab, [*OURS, *words], steps)
    assert ours == real
    _prepare(lab, "rm -f q1 q2 q3 q4 q5")
