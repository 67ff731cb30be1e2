"""%host: which command reaches the lab host."""

from __future__ import annotations

import json
from typing import Any, Self

import pytest
from IPython.utils.capture import capture_output

from labkit.notebook.magics.session import Session


class Stream:
    def __init__(self, frames: list[tuple[int, bytes]]) -> None:
        self._frames = frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def frames(self) -> list[tuple[int, bytes]]:
        return self._frames


class Lab:
    def __init__(self) -> None:
        self.argv: list[list[str]] = []
        self.outcome: dict[str, Any] = {"exit_code": 0}

    def hijack(self, path: str, *, json: dict[str, Any]) -> Stream:
        assert path == "/v1/host/exec"
        self.argv.append(json["argv"])
        return Stream([(1, b"out\n"), (2, b"err\n"), (3, _encode(self.outcome))])


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def lab(shell: Any, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab()
    monkeypatch.setattr(Session, "lab", lambda self: lab)
    return lab


def run(shell: Any, cell: str) -> Any:
    with capture_output() as captured:
        shell.run_cell(cell).raise_error()
    return captured


def test_a_line_is_a_command_and_its_streams_are_told_apart(shell: Any, lab: Lab) -> None:
    captured = run(shell, "pid = 7\n%host grep Uid /proc/{pid}/status # of the box")
    assert lab.argv == [["grep", "Uid", "/proc/7/status"]]
    assert (captured.stdout, captured.stderr) == ("out\n", "err\n")


def test_a_pipe_runs_in_sh_on_the_host(shell: Any, lab: Lab) -> None:
    run(shell, "name = 'a b'\n%host ps -ef | grep \"{name}\" && hostname")
    assert lab.argv == [["sh", "-c", 'ps -ef | grep "a b" && hostname']]


def test_a_cell_is_a_script_with_arguments(shell: Any, lab: Lab) -> None:
    lab.outcome = {"exit_code": 4}
    run(shell, "%%host one 'two three'\necho $1\nexit 4\n")
    assert lab.argv == [["sh", "-c", "echo $1\nexit 4\n", "sh", "one", "two three"]]
    assert shell.user_ns["_exit_code"] == 4


def test_an_assigned_line_gives_its_output(shell: Any, lab: Lab) -> None:
    captured = run(shell, "name = %host hostname")
    assert shell.user_ns["name"] == ["out"]
    assert captured.stdout == ""


def test_what_makes_no_sense_is_said(shell: Any, lab: Lab) -> None:
    assert "needs a command" in run(shell, "%host").stderr
    assert "background" in run(shell, "%host sleep 9 &").stderr
    assert lab.argv == []
