"""`%docker run -it` and its like: a terminal in the cell, made by Jupyter's server.

The kernel asks the server it belongs to (`labkit.notebook.jupyter`) for a terminal whose program
is this very command line, and shows the server's page for it. Nothing of the session passes
through the kernel, so it works while cells run and outlives the kernel. Where no such server is
found, the command to paste into a terminal is printed instead.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from labkit.base.errors import CommandError, Unavailable
from labkit.notebook.jupyter import ROUTE
from labkit.notebook.jupyter.request import ENVIRONMENT
from labkit.notebook.magics.style import with_style
from labkit.notebook.magics.surface import NotebookSurface, show

__all__ = ["Server", "find_server", "open_terminal", "paste_line"]

_TIMEOUT_S = 15.0
_HEIGHT_PX = 380


@dataclass(frozen=True, slots=True)
class Server:
    """The Jupyter server that started this kernel: `base` is its path, ending in a slash."""

    host: str
    port: int
    base: str
    token: str
    secure: bool = False
    sock: str = ""
    is_public: bool = False  # whether browsers of other machines are meant to reach it

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One call below our address; status and JSON. Raises OSError where it cannot be had."""
        headers = {"Content-Type": "application/json", "X-XSRFToken": "labkit"}
        headers["Cookie"] = "_xsrf=labkit"  # what a server without a token compares with the above
        if self.token:
            headers["Authorization"] = f"token {self.token}"
        connection = self._connect()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"{self.base}{ROUTE}{path}", data, headers)
            answer = connection.getresponse()
            text = answer.read()
            with contextlib.suppress(ValueError):
                return answer.status, json.loads(text)
            return answer.status, {}
        except http.client.HTTPException as error:
            raise OSError(f"Jupyter's server does not answer: {error}") from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self.sock:
            made = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_S)
            made.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.sock.settimeout(_TIMEOUT_S)
            made.sock.connect(self.sock)
            return made
        if not self.secure:
            return http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        import ssl

        # The server of this very process tree, on this machine: its certificate names the machine
        # for browsers elsewhere, so there is no name to check it against.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(
            self.host, self.port, timeout=_TIMEOUT_S, context=context
        )


def find_server() -> Server | None:
    """The server whose child this kernel is, from the file that it keeps while it runs."""
    pid = os.environ.get("JPY_PARENT_PID", "")
    if not pid.isdecimal():
        return None
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        found = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{pid}.json").read_text())
        host = str(found["hostname"])
        return Server(
            "127.0.0.1" if host in ("", "0.0.0.0", "*") else "::1" if host == "::" else host,  # noqa: S104
            int(found["port"]),
            str(found["base_url"]),
            # Under JupyterHub the token is the Hub's, and the server's environment has it.
            str(found.get("token") or os.environ.get("JUPYTERHUB_API_TOKEN") or ""),
            bool(found.get("secure")),
            str(found.get("sock") or ""),
            host not in ("127.0.0.1", "localhost", "::1"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def paste_line(words: Sequence[str]) -> str:
    """The line that does the same in a terminal, at the same engine."""
    chosen = [
        f"{name}={shlex.quote(os.environ[name])}"
        for name in ("LABKIT_HOME", "LABKIT_RUN", "DOCKER_HOST", "DOCKER_CONTEXT")
        if name in os.environ
    ]
    return " ".join([*chosen, "labkit docker", shlex.join(words)])


def open_terminal(words: Sequence[str], keys: bytes, surface: NotebookSurface) -> int:
    """Carry out `docker WORDS` in a terminal of its own, shown in the cell.

    A session that is over at once is shown as text, with the exit code as this function's value.
    Raises CommandError, with the line to paste, where there is nobody who could type.
    """
    if not surface.interactive:
        raise CommandError(
            "the input device is not a TTY",
            hint="this notebook runs without anybody who could type. Leave -t away and give the "
            "input in the cell: `%%docker run -i …` above the lines that shall be typed",
        )
    try:
        session = _ask_server(words, keys)
    except Unavailable as reason:
        _show_paste(words, reason.message)
        return 0
    if session["state"] != "running":
        surface.out(str(session["text"]).replace("\r\n", "\n"))
        return int(session["exit_code"] or 0)
    surface.close()
    _show_frame(session, words)
    return 0


def _ask_server(words: Sequence[str], keys: bytes) -> dict[str, Any]:
    """The new session. Raises Unavailable with the reason why there can be none."""
    server = find_server()
    if server is None:
        raise Unavailable("this notebook does not run in a Jupyter server’s page")
    body = {
        "words": list(words),
        "cwd": os.getcwd(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "detach_keys": keys.decode("latin-1"),
    }
    try:
        status, answer = server.request("POST", "/api/terminals", body)
    except OSError as error:
        raise Unavailable(f"Jupyter’s server does not answer ({error})") from error
    if status == 201:
        return dict(answer)
    if status == 404:
        raise Unavailable(
            "Jupyter’s server was started without labkit’s extension (start it with `labkit lab`, "
            "or `jupyter server extension enable labkit.notebook.jupyter`)"
        )
    if status in (401, 403):
        raise Unavailable("Jupyter’s server is locked with a password that kernels do not have")
    raise Unavailable(str(answer.get("message") or f"Jupyter’s server answered {status}"))


def _show_paste(words: Sequence[str], reason: str) -> None:
    line = paste_line(words)
    show(
        f"This command needs a terminal. Paste this line into one:\n\n  {line}\n\n({reason})",
        with_style(
            "<div>This command needs a terminal. Paste this line into one:</div>"
            f"<pre class='lk-paste'>{escape(line)}</pre>"
            f"<span class='lk-note'>{escape(reason)}</span>"
        ),
    )


def _show_frame(session: dict[str, Any], words: Sequence[str]) -> None:
    line = paste_line(words)
    name = escape(str(session["name"]), quote=True)
    title = escape(f"Terminal: docker {shlex.join(words)}", quote=True)
    arguments = escape(json.dumps({"name": session["name"]}), quote=True)
    show(
        f"[a terminal: docker {shlex.join(words)}]\nin a terminal of your own:  {line}",
        with_style(
            f"<div class='lk-term' style='height:{_HEIGHT_PX}px'>"
            f"<iframe src='{escape(str(session['page']), quote=True)}' title='{title}' "
            f"id='labkit-{name}'></iframe></div>"
            "<div class='lk-under'><button type='button' class='lk-tab' "
            f"data-commandlinker-command='terminal:open' data-commandlinker-args='{arguments}'>"
            f"Open in a tab</button> <span>or in a terminal of your own: "
            f"<code>{escape(line)}</code></span></div>"
        ),
    )
