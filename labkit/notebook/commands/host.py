"""Run a command on the lab host, where docker0 and /var/lib/docker are (`labkit host`, `%host`)."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from labkit.notebook.commands.surface import Surface

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.streams import HijackedStream

__all__ = ["execute", "run_in_terminal"]

_RESULT = 3  # the stream number of the last frame: how the command ended
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 1 << 16


def execute(
    lab: LabClient, argv: Sequence[str], surface: Surface, *, stdin: IO[bytes] | None = None
) -> int:
    """Run `argv` on the lab host, its output live; the exit code.

    Closing the connection ends the command, so an interrupt does.
    """
    environment = {"PATH": _PATH, "TERM": "dumb", "LANG": os.environ.get("LANG", "C.UTF-8")}
    body = {
        "argv": list(argv),
        "env": environment,
        "cwd": "/",
        "tty": False,
        "stdin": stdin is not None,
    }
    code = 1
    with lab.hijack("/v1/host/exec", json=body) as stream:
        if stdin is not None:
            threading.Thread(target=_feed, args=(stdin, stream), daemon=True).start()
        for number, data in stream.frames():
            if number == _RESULT:
                result = json.loads(data)
                code = int(result["exit_code"])
                if result.get("error"):
                    surface.err(f"{result['error']}\n")
            elif number == 2:
                surface.err_bytes(data)
            else:
                surface.out_bytes(data)
    return code


def _feed(source: IO[bytes], stream: HijackedStream) -> None:
    """Pass input on; the command may well end before its input does."""
    try:
        # By descriptor where there is one: a thread that still reads at the interpreter's end
        # would hold the buffer's lock, and Python aborts over that.
        try:
            descriptor = source.fileno()
        except (OSError, AttributeError, ValueError):
            descriptor = -1
        read = getattr(source, "read1", source.read)
        while data := os.read(descriptor, _CHUNK) if descriptor >= 0 else read(_CHUNK):
            stream.write(data)
        stream.close_stdin()
    except (OSError, ValueError):
        return


def run_in_terminal(lab: LabClient, argv: Sequence[str]) -> int:
    """`labkit host COMMAND`: this process's own stdin (when it is no terminal) and output."""
    from labkit.notebook.commands.terminal import TerminalSurface

    stdin = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer
    return execute(lab, argv, TerminalSurface(), stdin=stdin)
