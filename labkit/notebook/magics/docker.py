"""`%docker` and `%%docker`."""

from __future__ import annotations

from typing import Any

from labkit.notebook.magics.line import Notebook, docker_main
from labkit.notebook.magics.results import Lines, Rows
from labkit.notebook.magics.shell import run_shell
from labkit.notebook.magics.surface import NotebookSurface

__all__ = ["run_docker", "start_job"]


def run_docker(notebook: Notebook, text: str, cell: str | None, *, keep: bool) -> Any:
    """Run one line. `cell` is the command's stdin. With a final `&` the value is the job."""
    stdin = None if cell is None else cell.encode()
    job: list[Any] = []

    def work(surface: NotebookSurface) -> int:
        line = notebook.parse(text)
        if line.background:
            notebook.session.docker()  # a daemon that cannot start is said here, not in the panel
            job.append(start_job(notebook, f"docker {text}", line.script(["docker"]), stdin))
            return 0
        if line.tail:
            notebook.session.docker()
            return run_shell(line.script(["docker"]), surface, stdin=stdin)
        return docker_main(line.words, notebook.session.docker(), surface)

    result: Rows | Lines | None = notebook.guard(work, keep=keep, stdin=stdin)
    if job:
        return job[0] if keep else None
    return result


def start_job(notebook: Notebook, title: str, script: str, stdin: bytes | None) -> Any:
    """Start a line in the background and show its panel."""
    job = notebook.session.jobs.start(title.rstrip().rstrip("&").rstrip(), script, stdin=stdin)
    from labkit.notebook.widgets import show_panel

    show_panel(job)
    return job
