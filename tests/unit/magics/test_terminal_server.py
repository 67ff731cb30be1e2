"""A real Jupyter server with our extension: who may ask it, and what comes of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupyter_server_terminals", reason="jupyter-server-terminals is not installed")

from labkit.notebook.magics.terminal import Server

ROOT = Path(__file__).parents[3]
TOKEN = "unit"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with folders of its own; it has ended when the tests have."""
    folder = tmp_path_factory.mktemp("jupyter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": str(ROOT),
        "DOCKER_HOST": "unix:///nowhere/docker.sock",
    }
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
                "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={TOKEN}",
                "--ServerApp.base_url=/base/", f"--ServerApp.root_dir={folder}",
                "--ServerApp.jpserver_extensions={'labkit.notebook.jupyter': True}",
            ],
            env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
    made = Server("127.0.0.1", port, "/base/", TOKEN)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            with contextlib.suppress(OSError):
                if made.request("GET", "/api/terminals/docker_000000000000")[0] == 404:
                    break
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _ask(server: Server, folder: Path, words: list[str], **more: Any) -> tuple[int, Any]:
    body = {"words": words, "cwd": str(folder), **more}
    return server.request("POST", "/api/terminals", body)


def test_a_session_that_ends_at_once_leaves_its_words_and_its_code(
    server: Server, tmp_path: Path
) -> None:
    status, session = _ask(server, tmp_path, ["--version"])
    assert status == 201
    _, session = server.request("GET", f"/api/terminals/{session['name']}?wait=20")
    assert session["state"] == "ended"
    assert session["exit_code"] == 0
    assert session["text"].startswith("Docker version")


def test_the_exit_code_is_the_clients(server: Server, tmp_path: Path) -> None:
    _, session = _ask(server, tmp_path, ["nosuch"])
    _, session = server.request("GET", f"/api/terminals/{session['name']}?wait=20")
    assert session["exit_code"] == 1
    assert "unknown command: docker nosuch" in session["text"]


def test_words_are_never_read_by_a_shell(server: Server, tmp_path: Path) -> None:
    _, session = _ask(server, tmp_path, [";touch", "made;", "$(touch made)"])
    _, session = server.request("GET", f"/api/terminals/{session['name']}?wait=20")
    assert "docker: unknown command" in session["text"]
    assert list(tmp_path.iterdir()) == []


def test_the_engine_is_the_one_the_kernel_has_chosen(server: Server, tmp_path: Path) -> None:
    chosen = {"DOCKER_HOST": "unix:///chosen/by/kernel.sock"}
    _, session = _ask(server, tmp_path, ["ps"], environment=chosen)
    _, session = server.request("GET", f"/api/terminals/{session['name']}?wait=20")
    assert "/chosen/by/kernel.sock" in session["text"]


def test_what_is_not_our_client_is_refused(server: Server, tmp_path: Path) -> None:
    status, answer = _ask(server, tmp_path, ["ps"], environment={"LD_PRELOAD": "x"})
    assert status == 400
    assert "LD_PRELOAD" in answer["message"]
    status, answer = server.request("POST", "/api/terminals", {"shell_command": ["sh"]})
    assert status == 400


def _plain(server: Server, method: str, path: str, **headers: str) -> tuple[int, str]:
    """A request without the token, as a page of somebody else's would send it."""
    url = f"http://127.0.0.1:{server.port}/base/labkit{path}"
    body = json.dumps({"words": ["ps"], "cwd": "/"}).encode() if method == "POST" else None
    request = urllib.request.Request(url, body, headers, method=method)
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def test_a_stranger_gets_nothing(server: Server) -> None:
    name = "docker_000000000000"
    forged = {"X-XSRFToken": "a", "Cookie": "_xsrf=a"}
    assert _plain(server, "POST", "/api/terminals")[0] == 403
    assert _plain(server, "POST", "/api/terminals", **forged)[0] == 403
    assert _plain(server, "GET", f"/api/terminals/{name}")[0] == 403
    assert _plain(server, "POST", f"/api/terminals/{name}/leave", **forged)[0] == 403
    assert _plain(server, "GET", f"/terminals/{name}")[0] in (302, 403)


def test_a_forged_request_of_a_signed_in_browser_is_refused(server: Server) -> None:
    # A browser that has a cookie of the server, led to another site's form: no XSRF header.
    url = f"http://127.0.0.1:{server.port}/base/api/status?token={TOKEN}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        cookies = answer.headers.get_all("Set-Cookie") or []
    login = "; ".join(cookie.partition(";")[0] for cookie in cookies if "username-" in cookie)
    assert login
    assert _plain(server, "GET", "/terminals/docker_000000000000", Cookie=login)[0] == 200
    assert _plain(server, "POST", "/api/terminals", Cookie=login)[0] == 403


def test_the_page_holds_the_words_as_data_only(server: Server, tmp_path: Path) -> None:
    words = ["nosuch", "\"><script>alert(1)</script>{{script}}'"]
    _, session = _ask(server, tmp_path, words)
    server.request("GET", f"/api/terminals/{session['name']}?wait=20")
    status, page = _plain(
        server, "GET", f"/terminals/{session['name']}", Authorization=f"token {TOKEN}"
    )
    assert status == 200
    assert "<script>alert" not in page
    assert len(re.findall("<script", page)) == 1


def test_a_terminal_of_an_earlier_server_says_so(server: Server) -> None:
    status, page = _plain(
        server, "GET", "/terminals/docker_0123456789ab", Authorization=f"token {TOKEN}"
    )
    assert status == 200
    assert "gone" in page
    assert server.request("POST", "/api/terminals/docker_0123456789ab/leave")[0] == 404


def test_leaving_what_is_not_attached_is_a_conflict(server: Server, tmp_path: Path) -> None:
    _, session = _ask(server, tmp_path, ["--version"])
    server.request("GET", f"/api/terminals/{session['name']}?wait=20")
    status, answer = server.request("POST", f"/api/terminals/{session['name']}/leave")
    assert status == 409
    assert "no container to be left" in answer["message"]
