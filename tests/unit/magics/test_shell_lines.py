"""Lines that sh runs, with `docker` inside them being ours, and lines in the background."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.utils.capture import capture_output

from labkit.notebook.commands.surface import BufferSurface
from labkit.notebook.magics import shell as sh
from labkit.notebook.magics.jobs import Jobs


@pytest.fixture
def fake_docker_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of ours: prints its words, one per line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text('#!/bin/sh\nfor w in "$@"; do echo "[$w]"; done\n')
    program.chmod(0o755)
    monkeypatch.setattr(sh, "_programs", lambda: folder)
    return folder


def run(shell: Any, cell: str) -> Any:
    with capture_output() as captured:
        shell.run_cell(cell).raise_error()
    return captured


def test_a_pipe_goes_through_sh(shell: Any, fake_docker_on_path: Path) -> None:
    captured = run(shell, "%docker ps -a --filter 'name=a b' | grep -c .")
    assert captured.stdout == "4\n"
    captured = run(shell, "n = %docker ps -q | wc -l")
    assert shell.user_ns["n"] == ["2"]
    assert captured.stdout == ""


def test_redirection_and_and(shell: Any, fake_docker_on_path: Path) -> None:
    run(shell, "%docker logs web > out.txt")
    assert Path("out.txt").read_text() == "[logs]\n[web]\n"
    captured = run(shell, "%docker stop web && docker rm web")
    assert captured.stdout == "[stop]\n[web]\n[rm]\n[web]\n"
    captured = run(shell, "%docker a | false")
    assert shell.user_ns["_exit_code"] == 1


def test_a_cell_body_reaches_a_pipeline(shell: Any, fake_docker_on_path: Path) -> None:
    (fake_docker_on_path / "docker").write_text("#!/bin/sh\ncat\n")
    captured = run(shell, "%%docker exec -i web cat | tr a-z A-Z\nhello\n")
    assert captured.stdout == "HELLO\n"


def test_our_docker_on_path_runs_our_command_line(folders: Path) -> None:
    for _ in range(2):
        surface = BufferSurface()
        code = sh.run_shell("cd / && docker --help | head -n 2", surface)
        assert code == 0, surface.stderr
        assert surface.stdout.strip().startswith("Usage:")
    assert len(list((folders / "run" / "bin").glob("*/docker"))) == 1
    code = sh.run_shell("docker ps", surface)
    assert code == 1
    assert "Cannot connect to the Docker daemon" in surface.stderr


def test_stdout_and_stderr_are_told_apart_and_the_code_is_kept() -> None:
    surface = BufferSurface()
    code = sh.run_shell("echo a; echo b >&2; exit 7", surface)
    assert (surface.stdout, surface.stderr, code) == ("a\n", "b\n", 7)
    assert sh.run_shell("kill -9 $$", BufferSurface()) == 137


def test_the_stop_button_interrupts_the_whole_line() -> None:
    surface = BufferSurface()
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sh.run_shell(
            "trap 'echo got it; exit 0' INT; echo begun; while :; do sleep 0.05; done", surface
        )
    timer.join()
    assert surface.stdout == "begun\ngot it\n"


def test_a_job_runs_in_the_background_and_stops() -> None:
    jobs = Jobs()
    job = jobs.start("count", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
    assert job.wait_for("3\n")
    assert job.state == "running"
    assert "running: count" in repr(job)
    changes: list[str] = []
    job.on_change(lambda one: changes.append(one.state))
    job.stop()
    assert job.state == "stopped"
    assert job.code is not None
    assert changes[-1] == "stopped"
    assert jobs.get("1") is job
    jobs.stop_all()


def test_a_job_that_ignores_the_interrupt_is_ended() -> None:
    jobs = Jobs()
    job = jobs.start("deaf", "trap '' INT; echo deaf; while :; do sleep 0.1; done")
    assert job.wait_for("deaf")
    job.stop(wait_s=8)
    assert job.code == 143


def test_a_job_keeps_only_the_end_of_much_output() -> None:
    jobs = Jobs()
    job = jobs.start("much", "yes 0123456789 | head -n 60000; echo end")
    assert job.wait(20) == 0
    assert job.text.endswith("end\n")
    assert len(job.text) <= 64_000
    assert job.characters == 60_000 * 11 + 4


def test_at_the_kernels_end_not_even_a_deaf_job_survives() -> None:
    jobs = Jobs()
    job = jobs.start("deaf", "trap '' INT TERM; echo deaf; while :; do sleep 0.1; done")
    assert job.wait_for("deaf")
    jobs.stop_all(wait_s=0.2, kill=True)
    assert job.wait(5) == 137


def test_jobs_leave_no_process_behind() -> None:
    jobs = Jobs()
    jobs.start("sleep", "sleep 77.25")
    jobs.stop_all()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _is_running("77.25"):
        time.sleep(0.05)
    assert not _is_running("77.25")


def _is_running(word: str) -> bool:
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                if word.encode() in Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0"):
                    return True
            except OSError:
                continue
    return False


def test_a_background_line_shows_a_panel_with_its_text_twin(
    with_browser: Any, fake_docker_on_path: Path
) -> None:
    captured = run(with_browser, "%docker logs -f web &")
    data = captured.outputs[0].data
    assert "docker logs -f web" in data["text/plain"]
    assert "[logs]" in data["text/plain"]
    assert data["image/svg+xml"].startswith("<svg")
    assert "application/vnd.jupyter.widget-view+json" in data
    captured = run(with_browser, "%lab jobs")
    assert "docker logs -f web" in captured.outputs[0].data["text/plain"]
    captured = run(with_browser, "job = %docker logs web &")
    assert with_browser.user_ns["job"].wait(5) == 0


def test_without_a_browser_the_panel_is_a_drawing_renewed_after_cells(
    shell: Any, fake_docker_on_path: Path
) -> None:
    (fake_docker_on_path / "docker").write_text(
        "#!/bin/sh\necho one\nwhile [ ! -e go ]; do sleep 0.05; done\necho two\n"
    )
    captured = run(shell, "%docker logs -f web &")
    assert set(captured.outputs[0].data) == {"image/svg+xml", "text/plain"}
    assert captured.outputs[0].data["text/plain"].endswith("running: docker logs -f web\none")
    Path("go").touch()
    assert shell._labkit_notebook[0].session.jobs.get("1").wait(10) == 0
    captured = run(shell, "1")
    renewed = [output for output in captured.outputs if "image/svg+xml" in output.data]
    assert len(renewed) == 1
    assert renewed[0].data["text/plain"].endswith("one\ntwo")
    assert "ended, exit code 0" in renewed[0].data["text/plain"]
    assert run(shell, "pass").outputs == []
