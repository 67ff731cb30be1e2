"""`labkit …` without a daemon: help, refusals, and what can be said while nothing runs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import cli
from labkit.base.errors import CommandError
from labkit.base.paths import LabPaths
from labkit.notebook import lifecycle


@pytest.fixture(autouse=True)
def own_lab(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> LabPaths:
    monkeypatch.setenv("LABKIT_HOME", str(short_tmp / "home"))
    monkeypatch.setenv("LABKIT_RUN", str(short_tmp / "run"))
    return LabPaths.from_environment()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in cli.COMMANDS)


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dokcer"]) == 1
    assert "'dokcer' is not a labkit command" in capsys.readouterr().err


def test_env_points_docker_at_the_lab(
    capsys: pytest.CaptureFixture[str], own_lab: LabPaths
) -> None:
    assert cli.main(["env"]) == 0
    assert f"export DOCKER_HOST=unix://{own_lab.docker_socket}" in capsys.readouterr().out
    assert cli.main(["env", "--shell", "fish"]) == 0
    assert "set -gx KUBECONFIG" in capsys.readouterr().out


def test_status_says_that_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 1
    assert "not running" in capsys.readouterr().out
    assert cli.main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_down_when_nothing_runs_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert "was not running" in capsys.readouterr().out


def test_reset_asks_before_it_removes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["reset"]) == 1
    assert "reset --force" in capsys.readouterr().err


def test_reset_never_follows_a_link_out(own_lab: LabPaths, short_tmp: Path) -> None:
    outside = short_tmp / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    own_lab.prepare()
    (own_lab.home / "link").symlink_to(outside)
    stubborn = own_lab.home / "work"
    stubborn.mkdir()
    (stubborn / "inner").mkdir(mode=0o000)
    assert cli.main(["reset", "--force"]) == 0
    assert not own_lab.home.exists()
    assert (outside / "precious").read_text() == "kept"


def test_the_course_is_found_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("LABKIT_COURSE", str(tmp_path))
    assert lifecycle.course_folder() == tmp_path


def test_without_a_course_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lifecycle, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(CommandError) as caught:
        lifecycle.course_folder()
    assert caught.value.hint


def test_the_command_line_starts_without_heavy_imports() -> None:
    """A Python command line pays for its imports before its first line."""
    heavy = ["IPython", "aiohttp", "anywidget", "docker", "matplotlib", "nbformat", "papermill"]
    heavy += ["pyroute2", "requests", "rich", "yaml", "asyncio"]
    code = (
        "import sys; from labkit import cli; cli.main(['--help']); "
        "import labkit.notebook.client, labkit.notebook.commands.docker; "
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_what_lies_where_one_stands_is_not_imported(
    tmp_path: Path, own_lab: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout without its built core, or a trap, in the working folder is no daemon."""
    trap = tmp_path / "labkit"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    from labkit.notebook.spawn import answers, ensure

    try:
        ensure(own_lab, 60.0, ["--mode", "hollow"])
        assert answers(own_lab)
    finally:
        lifecycle.take_down(own_lab)


def test_a_daemon_that_cannot_serve_says_why(own_lab: LabPaths) -> None:
    from labkit.notebook.spawn import last_error

    own_lab.prepare()
    own_lab.daemon_log.write_text(
        "2026-11-21 02:51:10,534 INFO labkit.daemon: serving\n"
        "2026-11-21 02:51:10,534 ERROR labkit.daemon: cannot serve: no core\n    detail\n"
    )
    assert last_error(own_lab) == "cannot serve: no core"
