"""What a kernel may ask Jupyter's server for, and which command lines ask for a terminal."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from magic_fakes import FakeClient

from labkit.base.errors import CommandError, InvalidParameter
from labkit.notebook.commands.docker.attended import detach_keys
from labkit.notebook.jupyter.request import read_request
from labkit.notebook.magics.surface import NotebookSurface
from labkit.notebook.magics.terminal import find_server, open_terminal, paste_line

TERMINAL = {"Config": {"Tty": True, "OpenStdin": True}, "State": {"Running": True}}
PIPE = {"Config": {"Tty": False, "OpenStdin": True}, "State": {"Running": True}}
STOPPED = {"Config": {"Tty": True, "OpenStdin": True}, "State": {"Running": False}}


def _client() -> Any:
    return FakeClient(
        {
            ("GET", "/containers/term/json"): TERMINAL,
            ("GET", "/containers/pipe/json"): PIPE,
            ("GET", "/containers/old/json"): STOPPED,
        }
    )


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        ("run -it alpine sh", True),
        ("run --rm -t -i --name x alpine", True),
        ("run -t -a stdin alpine", True),
        ("container run -ti alpine", True),
        ("run -dit alpine sh", False),
        ("run -t alpine ls", False),
        ("run -i alpine cat", False),
        ("run alpine -it", False),
        ("run -it", False),
        ("run -it --nosuch alpine", False),
        ("run -it --help", False),
        ("exec -it term sh", True),
        ("exec -itd term sh", False),
        ("exec -i term sh", False),
        ("attach term", True),
        ("attach --no-stdin term", False),
        ("attach pipe", False),
        ("attach old", False),
        ("attach nosuch", False),
        ("start -ai old", True),
        ("start -i old", True),
        ("start -a old", False),
        ("start old", False),
        ("start -ai pipe", False),
        ("ps", False),
        ("nosuch -it", False),
        ("create -it alpine", False),
    ],
)
def test_the_lines_that_join_two_terminals(line: str, needs: bool) -> None:
    assert (detach_keys(shlex.split(line), _client()) is not None) is needs


def test_the_detach_keys_are_those_of_the_line() -> None:
    assert detach_keys(["run", "-it", "alpine"], _client()) == b"\x10\x11"
    words = ["exec", "-it", "--detach-keys", "ctrl-a,d", "term", "sh"]
    assert detach_keys(words, _client()) == b"\x01d"


def test_words_reach_the_client_as_they_are(tmp_path: Path) -> None:
    words = ["run", "-it", "alpine", "sh", "-c", "echo $HOME; `id`"]
    request = read_request({"words": words, "cwd": str(tmp_path)})
    assert request.argv[0] == sys.executable
    assert request.argv[-len(words) :] == words


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"words": "run -it alpine"}, "list of docker's words"),
        ({"words": []}, "list of docker's words"),
        ({"words": ["run", 1]}, "list of docker's words"),
        ({"words": ["run", "a\0b"]}, "zero byte"),
        ({"words": ["x"] * 3000}, "too long"),
        ({"words": ["x" * 200_000]}, "too long"),
        ({"cwd": "relative"}, "absolute"),
        ({"cwd": "/no/such/folder"}, "no folder"),
        ({"environment": {"LD_PRELOAD": "/tmp/x.so"}}, "may not set LD_PRELOAD"),
        ({"environment": {"PATH": "/tmp"}}, "may not set PATH"),
        ({"environment": {"PYTHONPATH": "/tmp"}}, "may not set PYTHONPATH"),
        ({"environment": {"DOCKER_HOST": 1}}, "must be text"),
        ({"environment": ["DOCKER_HOST"]}, "must be an object"),
        ({"detach_keys": ""}, "detach_keys"),
        ({"detach_keys": "x" * 99}, "detach_keys"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    body = {"words": ["run", "-it", "alpine"], "cwd": str(tmp_path), **change}
    with pytest.raises(InvalidParameter) as caught:
        read_request(body)
    assert sentence in caught.value.message


def test_a_request_is_an_object() -> None:
    for body in (None, [], "run", 7):
        with pytest.raises(InvalidParameter):
            read_request(body)


def test_a_kernel_without_a_jupyter_server_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert find_server() is None
    monkeypatch.setenv("JPY_PARENT_PID", "999999999")
    assert find_server() is None


def test_the_server_is_the_one_that_started_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "41")
    facts = {"hostname": "0.0.0.0", "port": 8899, "base_url": "/user/x/", "token": "secret"}
    (tmp_path / "jpserver-41.json").write_text(json.dumps(facts))
    found = find_server()
    assert found is not None
    assert (found.host, found.port, found.base) == ("127.0.0.1", 8899, "/user/x/")
    assert found.token == "secret"
    (tmp_path / "jpserver-41.json").write_text("{")
    assert find_server() is None


def test_the_hubs_token_opens_a_server_that_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "41")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hubs")
    facts = {"hostname": "localhost", "port": 1, "base_url": "/", "token": ""}
    (tmp_path / "jpserver-41.json").write_text(json.dumps(facts))
    found = find_server()
    assert found is not None
    assert found.token == "hubs"


def test_without_a_page_the_line_to_paste_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    shown: list[str] = []
    monkeypatch.setattr(
        "labkit.notebook.magics.terminal.show", lambda text, html=None, **_: shown.append(text)
    )
    surface = NotebookSurface(can_ask=lambda: True)
    assert open_terminal(["run", "-it", "alpine", "sh", "-c", "a b"], b"\x10\x11", surface) == 0
    assert "labkit docker run -it alpine sh -c 'a b'" in shown[0]
    assert paste_line(["ps"]).startswith("LABKIT_HOME=")


def test_where_nobody_can_type_the_refusal_says_what_to_do_instead() -> None:
    surface = NotebookSurface(stdin=io.BytesIO(), can_ask=lambda: False)
    with pytest.raises(CommandError) as caught:
        open_terminal(["run", "-it", "alpine"], b"\x10\x11", surface)
    assert caught.value.message == "the input device is not a TTY"
    assert "%%docker run -i" in caught.value.hint
