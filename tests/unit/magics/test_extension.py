"""Loading the extension, and what a cell does with a magic's line and value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.utils.capture import capture_output

from labkit.base.errors import CommandError, NotFound
from labkit.notebook import magics
from labkit.notebook.commands.surface import Table

ROOT = Path(__file__).parents[3]
TABLE = Table(
    ("CONTAINER ID", "STATUS", "NAMES"),
    [
        ("9f2c4c0d7a11", "Up 3 seconds", "web"),
        ("77aa12bb34cc", "Exited (137) 1 second ago", "db<1>"),
    ],
    "CONTAINER ID   STATUS   NAMES\n9f2c4c0d7a11   Up 3 seconds   web\n77aa…\n",
    [{"ID": "9f2c4c0d7a11", "Names": "web"}, {"ID": "77aa12bb34cc", "Names": "db<1>"}],
)


def run(shell: Any, cell: str) -> Any:
    """Run a cell; its captured output. Fails when the cell raises."""
    with capture_output() as captured:
        result = shell.run_cell(cell)
    result.raise_error()
    return captured


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys, json, os; os.environ['LABKIT_START'] = 'on-demand';"
        "from IPython.core.interactiveshell import InteractiveShell as S;"
        "from traitlets.config import Config; c = Config(); c.HistoryManager.enabled = False;"
        "s = S.instance(config=c); before = set(sys.modules);"
        "s.run_line_magic('load_ext', 'labkit');"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = json.loads(found.stdout.splitlines()[-1])
    tops = {name.partition(".")[0] for name in loaded}
    forbidden = {
        "matplotlib", "nbformat", "papermill", "pyroute2", "anywidget", "docker", "rich",
        "ipywidgets", "aiohttp", "requests", "sqlite3", "cffi",
    }  # fmt: skip
    assert not tops & forbidden
    assert not [name for name in loaded if name.startswith(("labkit.host", "labkit.daemon"))]


def test_loading_twice_changes_nothing_and_unloading_takes_the_magics_away(shell: Any) -> None:
    magics.load_ipython_extension(shell)
    assert shell.find_line_magic("docker") is not None
    assert len(shell.Completer.custom_matchers) == 1
    magics.unload_ipython_extension(shell)
    assert shell.find_line_magic("docker") is None
    assert shell.Completer.custom_matchers == []
    magics.unload_ipython_extension(shell)


def test_a_line_reaches_docker_as_words(shell: Any, docker: Any) -> None:
    run(shell, "name = 'web'\n%docker inspect -f '{{json .State}}' {name} # a comment")
    run(shell, "%docker run \\\n  -d busybox")
    assert docker.calls == [
        ["inspect", "-f", "{{json .State}}", "web"],
        ["run", "-d", "busybox"],
    ]


def test_the_body_of_a_cell_magic_is_stdin(shell: Any, docker: Any) -> None:
    read: list[bytes] = []
    docker.script = lambda words, client, surface: read.append(surface.stdin.read()) or 0
    run(shell, "%%docker exec -i web cat\nhello {name}\n")
    assert read == [b"hello {name}\n"]
    assert docker.calls == [["exec", "-i", "web", "cat"]]


def listing(words: Any, client: Any, surface: Any) -> int:
    surface.table(TABLE)
    return 0


def test_a_listing_displays_itself_wherever_it_stands(shell: Any, docker: Any) -> None:
    docker.script = listing
    for cell in ("%docker ps", "%docker ps\nx = 1", "if True:\n    %docker ps"):
        captured = run(shell, cell)
        assert len(captured.outputs) == 1, cell
        data = captured.outputs[0].data
        assert data["text/plain"] == TABLE.text
        assert "<table" in data["text/html"]
        assert "db&lt;1&gt;" in data["text/html"]
        assert captured.stdout == ""


def test_an_assigned_listing_is_rows_and_displays_nothing(shell: Any, docker: Any) -> None:
    docker.script = listing
    captured = run(shell, "rows = %docker ps")
    assert captured.outputs == []
    assert captured.stdout == ""
    rows = shell.user_ns["rows"]
    assert [row["Names"] for row in rows] == ["web", "db<1>"]
    assert rows[0]["CONTAINER ID"] == "9f2c4c0d7a11"
    assert rows.text == TABLE.text
    run(shell, "%docker rm {rows}")
    assert docker.calls[-1] == ["rm", "9f2c4c0d7a11", "77aa12bb34cc"]


def test_an_assigned_command_gives_lines(shell: Any, docker: Any) -> None:
    def script(words: Any, client: Any, surface: Any) -> int:
        surface.out("one\n")
        surface.out_bytes(b"two\n")
        surface.err("careful\n")
        return 3

    docker.script = script
    captured = run(shell, "out = %docker run busybox")
    out = shell.user_ns["out"]
    assert out == ["one", "two"]
    assert (out.text, out.stderr, out.exit_code) == ("one\ntwo\n", "careful\n", 3)
    assert captured.stderr == "careful\n"
    assert captured.stdout == ""


def test_a_function_may_use_the_value(shell: Any, docker: Any) -> None:
    docker.script = listing
    run(shell, "def f():\n    r = %docker ps\n    return len(r)\nn = f()")
    assert shell.user_ns["n"] == 2


def test_time_shows_the_listing_once(shell: Any, docker: Any) -> None:
    docker.script = listing
    captured = run(shell, "%time %docker ps")
    assert [o.data["text/plain"] for o in captured.outputs] == [TABLE.text]


def test_a_failure_says_what_next_and_its_code_and_does_not_raise(shell: Any, docker: Any) -> None:
    def script(words: Any, client: Any, surface: Any) -> int:
        surface.err("docker: executable file not found in $PATH.\n")
        surface.hint("look with `docker run busybox ls /bin`")
        return 127

    docker.script = script
    captured = run(shell, "%docker run busybox nope\nafter = True")
    assert captured.stderr == "docker: executable file not found in $PATH.\n"
    texts = [output.data["text/plain"] for output in captured.outputs]
    assert texts == ["try next: look with `docker run busybox ls /bin`", "exit code 127"]
    assert shell.user_ns["_exit_code"] == 127
    assert shell.user_ns["after"] is True
    docker.script = lambda *_: 0
    run(shell, "%docker ps")
    assert shell.user_ns["_exit_code"] == 0


def test_an_error_of_the_lab_is_a_sentence(shell: Any, docker: Any) -> None:
    def script(words: Any, client: Any, surface: Any) -> int:
        raise NotFound("No such container: web", hint="docker ps -a")

    docker.script = script
    captured = run(shell, "%docker inspect web")
    assert captured.stderr == "No such container: web\n"
    captured = run(shell, "%docker run 'x")
    assert "unexpected end of the line" in captured.stderr
    assert shell.user_ns["_exit_code"] == 2


def test_a_question_nobody_can_answer_names_its_flag(shell: Any, docker: Any) -> None:
    def script(words: Any, client: Any, surface: Any) -> int:
        assert not surface.interactive
        surface.ask("Are you sure? [y/N] ", flag="--force")
        raise AssertionError

    docker.script = script
    captured = run(shell, "%docker container prune")
    assert "nobody can answer" in captured.stderr
    assert "--force" in captured.outputs[0].data["text/plain"]


def test_a_question_is_asked_through_the_kernel(
    shell: Any, docker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernel:
        _allow_stdin = True

    answers: list[str] = []
    docker.script = lambda w, c, s: answers.append(s.ask("Sure? [y/N] ", flag="-f")) or 0
    monkeypatch.setattr(shell, "kernel", Kernel(), raising=False)
    monkeypatch.setattr("builtins.input", lambda question: f"y to {question}")
    run(shell, "%docker container prune")
    assert answers == ["y to Sure? [y/N] "]

    def refuse(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", refuse)
    captured = run(shell, "%docker container prune")
    assert "nobody can answer" in captured.stderr


def test_the_stop_button_ends_the_cell_in_one_line(shell: Any, docker: Any) -> None:
    import signal

    def handled(words: Any, client: Any, surface: Any) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            surface.out("forwarded\n")
        return 130

    for script in (handled, lambda *_: signal.raise_signal(signal.SIGINT)):
        docker.script = script
        with capture_output() as captured:
            result = shell.run_cell("%docker run busybox sleep 1d\nafter_stop = 1")
        assert isinstance(result.error_in_exec, KeyboardInterrupt)
        assert "Traceback" not in captured.stdout + captured.stderr
        assert "after_stop" not in shell.user_ns
        assert shell.user_ns["_exit_code"] == 130


def test_command_substitution_runs_docker_here(shell: Any, docker: Any, tmp_path: Path) -> None:
    def script(words: Any, client: Any, surface: Any) -> int:
        if words[0] == "ps":
            surface.out("a1\nb2\n")
        return 0

    docker.script = script
    run(shell, '%docker rm -f $(docker ps -aq) "$(pwd)" $(echo x y)')
    assert docker.calls[-1] == ["rm", "-f", "a1", "b2", str(Path.cwd()), "x", "y"]


def test_help_of_lab_lists_every_command_and_typos_get_the_nearest(shell: Any) -> None:
    from labkit.notebook.magics.lab import SUBCOMMANDS

    captured = run(shell, "%lab")
    for name in SUBCOMMANDS:
        assert f"  {name}" in captured.stdout
        assert "Usage:  %lab " in run(shell, f"%lab {name} --help").stdout
    captured = run(shell, "%lab statsu")
    assert captured.outputs[0].data["text/plain"] == "try next: %lab status"
    assert "later" in SUBCOMMANDS["save"].help
    assert "not there yet" in run(shell, "%lab save").stderr


def test_a_command_error_keeps_its_exit_code(shell: Any, docker: Any) -> None:
    def script(words: Any, client: Any, surface: Any) -> int:
        raise CommandError("the input device is not a TTY", 1, hint="leave -t away")

    docker.script = script
    run(shell, "%docker run -it busybox")
    assert shell.user_ns["_exit_code"] == 1
