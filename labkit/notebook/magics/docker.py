"""`%docker` and `%%docker`."""

from __future__ import annotations

from collections.abc import Sequence
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
        client = notebook.session.docker()
        if _may_type(line.words):
            from labkit.notebook.commands.docker.attended import detach_keys

            keys = detach_keys(line.words, client)
            if keys is not None and stdin is None and not keep:
                from labkit.notebook.magics.terminal import open_terminal

                return open_terminal(line.words, keys, surface)
        return docker_main(line.words, client, surface)

    result: Rows | Lines | None = notebook.guard(work, keep=keep, stdin=stdin)
    if job:
        return job[0] if keep else None
    return result


def _may_type(words: Sequence[str]) -> bool:
    """Whether reading the line closely is worth while: most commands open no terminal."""
    return not {"run", "exec", "attach", "start"}.isdisjoint(words[:4])


def start_job(notebook: Notebook, title: str, script: str, stdin: bytes | None) -> Any:
    """Start a line in the background and show its panel."""
    job = notebook.session.jobs.start(title.rstrip().rstrip("&").rstrip(), script, stdin=stdin)
    from labkit.notebook.widgets import show_panel

    show_panel(job)
    return job
