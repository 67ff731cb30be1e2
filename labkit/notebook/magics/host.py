"""`%host` and `%%host`: commands on the lab host, where docker0 and /var/lib/docker are."""

from __future__ import annotations

import json
import os
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.notebook.magics.grammar import substitute_text
from labkit.notebook.magics.line import Notebook
from labkit.notebook.magics.results import Lines, Rows
from labkit.notebook.magics.surface import NotebookSurface

__all__ = ["run_host"]

_RESULT = 3  # the stream number of the last frame: how the command ended
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run_host(notebook: Notebook, text: str, cell: str | None, *, keep: bool) -> Rows | Lines | None:
    """Run a line, or a cell as an sh script, on the lab host."""

    def work(surface: NotebookSurface) -> int:
        if cell is not None:
            argv = ["sh", "-c", cell, *notebook.parse(text).words]
        else:
            line = notebook.parse(text)
            if line.background:
                raise InvalidParameter(
                    "%host does not run in the background", hint="leave the final & away"
                )
            if not line.words and not line.tail:
                raise InvalidParameter("%host needs a command", hint="%host ip address")
            argv = list(line.words)
            if line.tail:
                argv = ["sh", "-c", substitute_text(text, notebook.namespace)]
        return execute(notebook.session.lab(), argv, surface)

    return notebook.guard(work, keep=keep)


def execute(lab: Any, argv: list[str], surface: NotebookSurface) -> int:
    """Run `argv` on the lab host, its output live; the exit code.

    Closing the connection ends the command, so the stop button does.
    """
    environment = {"PATH": _PATH, "TERM": "dumb", "LANG": os.environ.get("LANG", "C.UTF-8")}
    body = {"argv": argv, "env": environment, "cwd": "/", "tty": False, "stdin": False}
    code = 1
    with lab.hijack("/v1/host/exec", json=body) as stream:
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
