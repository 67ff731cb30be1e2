"""Starting the daemon on demand: once, detached, and with its last words when it fails."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.errors import Unavailable
from labkit.base.paths import LabPaths
from labkit.notebook.client import ensure_daemon, is_daemon_running

PYTHON = sys.executable  # the tests put something else in its place
# A stand-in for `python -m labkit.daemon`: notes its pid, then answers every ping.
SERVING = """
import os, socket, sys
run = os.environ["LABKIT_RUN"]
with open(run + "/pids", "a") as file:
    file.write(f"{os.getpid()} {os.getsid(0)} {sys.argv[4:]}\\n")
listener = socket.socket(socket.AF_UNIX)
listener.bind(run + "/docker.sock")
listener.listen()
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nApi-Version: 1.50\\r\\nContent-Length: 0\\r\\n\\r\\n")
    connection.close()
"""


@pytest.fixture
def stand_in(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program in Python's place; what it started is ended afterwards."""
    program = short_tmp / "python"
    monkeypatch.setattr("labkit.notebook.spawn.sys.executable", str(program))
    yield program
    pids = short_tmp / "run" / "pids"
    for line in pids.read_text().splitlines() if pids.exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)


def _write(program: Path, text: str) -> None:
    program.write_text(f"#!{PYTHON}\n{text}")
    program.chmod(0o755)


def test_two_callers_start_one_daemon(stand_in: Path, lab_paths: LabPaths) -> None:
    _write(stand_in, SERVING)
    assert not is_daemon_running(lab_paths)
    callers = [
        threading.Thread(
            target=ensure_daemon, args=(lab_paths,), kwargs={"wait_s": 20, "options": ["--x"]}
        )
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert is_daemon_running(lab_paths)
    (line,) = (lab_paths.run / "pids").read_text().splitlines()
    pid, session, options = line.split(maxsplit=2)
    assert pid == session, "the daemon must not hear its starter's terminal"
    assert options == "['--x']"


def test_the_last_words_of_a_daemon_that_ends_are_shown(
    stand_in: Path, lab_paths: LabPaths
) -> None:
    _write(stand_in, "raise SystemExit('no namespaces for you')")
    with pytest.raises(Unavailable, match="ended while starting:\n  no namespaces for you"):
        ensure_daemon(lab_paths, wait_s=20)


def test_a_daemon_that_never_answers_is_given_up(stand_in: Path, lab_paths: LabPaths) -> None:
    _write(
        stand_in,
        "import os, time\n"
        "open(os.environ['LABKIT_RUN'] + '/pids', 'w').write(f'{os.getpid()} 0 x')\n"
        "time.sleep(60)",
    )
    with pytest.raises(Unavailable, match=r"did not answer within 0\.5 s"):
        ensure_daemon(lab_paths, wait_s=0.5)


def test_a_socket_without_a_daemon_is_not_a_running_one(lab_paths: LabPaths) -> None:
    lab_paths.docker_socket.touch()
    assert not is_daemon_running(lab_paths)
