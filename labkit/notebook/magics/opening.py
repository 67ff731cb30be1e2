"""`%lab open web:80`: a container's port as an address for the browser.

A published port has an address on this machine already; another one is opened by the daemon, for
this machine alone. Where JupyterLab runs on another machine than the browser, loopback is not the
reader's: jupyter-server-proxy then carries the port under Jupyter's own address.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from html import escape
from typing import Any

from labkit.base.errors import CommandError, InvalidParameter, LabkitError
from labkit.notebook.magics.line import Notebook
from labkit.notebook.magics.style import with_style
from labkit.notebook.magics.surface import as_code, show

__all__ = ["open_port", "published_port"]

_LOOPBACKS = ("127.0.0.1", "localhost", "::1")
_PATIENCE_S = 2.0


def open_port(notebook: Notebook, words: list[str]) -> int:
    """Show the address of `NAME:PORT`; with the port left out, of the only one there is."""
    if len(words) > 1:
        raise InvalidParameter("%lab open: too many words", hint="%lab open web:80")
    name, _, text = words[0].partition(":")
    client = notebook.session.docker()
    found = client.request("GET", f"/containers/{name}/json").json()
    port = _port_of(text, found, words[0])
    here = published_port(found, port) or _forwarded(notebook, client, str(found["Id"]), port)
    answers = _answers(here)
    url, why_not = _for_browser(here)
    lines = [url]
    if why_not:
        lines.append(why_not)
    if not answers:
        lines.append(
            f"nothing listens on port {port} in {name} yet; `%docker logs {name}` may say why"
        )
    show("\n".join(lines) + "\n", _html(url, f"{name}:{port}", lines[1:]))
    return 0


def _port_of(text: str, found: dict[str, Any], asked: str) -> int:
    if text:
        number = text.removesuffix("/tcp")
        if not number.isdecimal() or not 0 < int(number) < 65536:
            raise InvalidParameter(f"{asked}: '{text}' is not a TCP port", hint="%lab open web:80")
        return int(number)
    known = [*(found["NetworkSettings"].get("Ports") or {})]
    known += list(found["Config"].get("ExposedPorts") or {})
    ports = sorted({int(one.partition("/")[0]) for one in known if one.endswith("/tcp")})
    if len(ports) != 1:
        listed = ", ".join(map(str, ports)) or "none"
        raise InvalidParameter(
            f"which port of {asked}? Its image and its flags name {listed}",
            hint=f"%lab open {asked}:80",
        )
    return ports[0]


def published_port(found: dict[str, Any], port: int) -> int | None:
    """Where a port is published on this machine, from `inspect`; None if it is not."""
    for binding in (found["NetworkSettings"].get("Ports") or {}).get(f"{port}/tcp") or ():
        if binding.get("HostIp", "") in ("", "0.0.0.0", "::", *_LOOPBACKS):  # noqa: S104
            return int(binding["HostPort"])
    return None


def _forwarded(notebook: Notebook, client: Any, identifier: str, port: int) -> int:
    if not client.is_local_lab:
        raise CommandError(
            f"port {port} is not published, and this engine is not the lab's",
            hint="run the container with -p, or unset DOCKER_HOST",
        )
    body = {"port": port}
    answer = notebook.session.lab().json("POST", f"/v1/containers/{identifier}/forward", body=body)
    return int(answer["port"])


def _answers(port: int) -> bool:
    """Whether somebody answers within two seconds: a server just started needs a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while not _answers_now(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _answers_now(port: int) -> bool:
    """Whether a connection is taken and not closed at once, as it is where nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as probe:
            probe.settimeout(_PATIENCE_S)
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(probe.recv(1))
    except TimeoutError:
        return True  # it listens, and waits for something else to be said
    except OSError:
        return False


def _for_browser(port: int) -> tuple[str, str]:
    """The address to open, and what stands in the way of it ("" if nothing does)."""
    from labkit.notebook.magics.terminal import find_server

    plain = f"http://127.0.0.1:{port}/"
    try:
        server = find_server()
    except (LabkitError, ImportError):
        server = None
    is_remote = "JUPYTERHUB_SERVICE_PREFIX" in os.environ or (
        server is not None and server.is_public
    )
    if server is None or not is_remote:
        return plain, ""
    if importlib.util.find_spec("jupyter_server_proxy") is None:
        return plain, (
            "this address is one of the machine that JupyterLab runs on; with "
            "`pip install jupyter-server-proxy` there, it opens in your browser too"
        )
    return f"{server.base}proxy/{port}/", ""


def _html(url: str, name: str, notes: list[str]) -> str:
    link = escape(url, quote=True)
    shown = escape(url if url.startswith("http") else f"{name} through Jupyter")
    text = "".join(f"<div class='lk-next'>{as_code(note)}</div>" for note in notes)
    return with_style(
        f"<div><b>{escape(name)}</b> &nbsp; <a href='{link}' target='_blank' rel='noopener'>"
        f"{shown}</a></div>{text}"
    )
