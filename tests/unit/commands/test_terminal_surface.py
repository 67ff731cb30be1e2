"""The terminal's surface: plain lines in a pipe, bars that move in place on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from labkit.notebook.commands.progress import bar, plain_line

PULL = [
    {"status": "Pulling from library/x", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "aaa"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "bbb"},
    {"status": "Downloading", "progressDetail": {"current": 50, "total": 100}, "id": "aaa"},
    {"status": "Pull complete", "progressDetail": {}, "id": "aaa"},
    {"status": "Status: Downloaded newer image for x:latest"},
]
SCRIPT = f"""
from labkit.notebook.commands.terminal import TerminalSurface
surface = TerminalSurface()
for message in {PULL!r}:
    surface.progress(message)
surface.hint("try that")
"""


def test_in_a_pipe_there_are_only_lines() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "latest: Pulling from library/x\n"
        "aaa: Pulling fs layer\n"
        "bbb: Pulling fs layer\n"
        "aaa: Pull complete\n"
        "Status: Downloaded newer image for x:latest\n"
    )
    assert done.stderr == ""


def test_on_a_terminal_each_layer_keeps_its_line() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break  # the last holder of the other side has gone
            if not piece:
                break
            text += piece
        assert process.wait(10) == 0
    os.close(ours)
    assert text.count(b"\x1b[2A") == 2, "both later states of aaa go two lines up"
    assert b"(try that)" in text


def test_a_bar_is_as_full_as_the_download() -> None:
    drawn = bar({"current": 50, "total": 100}, 200)
    assert drawn.count("=") == 25
    assert drawn.endswith("50B/100B")
    assert bar({}, 200) == ""
    assert plain_line({"status": "Downloading", "progressDetail": {"current": 1}}) == ""
    assert plain_line({"stream": "Step 1\n"}) == "Step 1\n"
