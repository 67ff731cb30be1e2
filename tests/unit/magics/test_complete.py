"""The Tab key, through IPython's own completer."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from labkit.base.errors import Unavailable
from labkit.notebook.commands.completion import Completion
from labkit.notebook.magics.session import Session
from labkit.notebook.widgets import VIEWS


def complete(shell: Any, text: str) -> list[str]:
    shell.Completer.use_jedi = False
    with provisionalcompleter():
        return sorted(one.text for one in shell.Completer.completions(text, len(text)))


@pytest.fixture
def proposals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    asked: list[tuple[list[str], str]] = []

    def fake(words: Any, current: str, *, client: Any) -> list[Completion]:
        asked.append((list(words), current))
        names = {"": ["run", "rm"], "r": ["run", "rm"], "--n": ["--name"], "w": ["web"]}
        return [Completion(name, "command", "help") for name in names.get(current, [])]

    monkeypatch.setattr("labkit.notebook.commands.docker.complete", fake)
    return asked


def test_subcommands_flags_and_names_come_from_the_command_tree(shell: Any, proposals: Any) -> None:
    assert complete(shell, "%docker r") == ["rm", "run"]
    assert complete(shell, "%docker run --n") == ["--name"]
    assert complete(shell, "x = %docker logs w") == ["web"]
    assert complete(shell, "a = 1\n%docker logs w") == ["web"]
    assert complete(shell, "%explain docker r") == ["rm", "run"]
    assert proposals[1] == (["run"], "--n")
    assert proposals[2] == (["logs"], "w")


def test_views_and_commands_of_lab(shell: Any) -> None:
    assert complete(shell, "%lab st") == ["status"]
    assert complete(shell, "%lab view ") == sorted(VIEWS)
    assert complete(shell, "%lab view life") == ["lifecycle"]


def test_other_lines_are_left_to_python(shell: Any, proposals: Any) -> None:
    assert "print" in complete(shell, "prin")
    complete(shell, "docker r")
    assert proposals == []


def test_a_missing_daemon_completes_nothing(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> Any:
        raise Unavailable("no daemon")

    monkeypatch.setattr(Session, "docker", fail)
    assert complete(shell, "%docker r") == ["r"]


def test_files_are_left_to_ipython(shell: Any, proposals: Any, tmp_path: Any) -> None:
    (tmp_path / "data.txt").touch()
    assert "./data.txt" in complete(shell, "%docker cp ./da")
