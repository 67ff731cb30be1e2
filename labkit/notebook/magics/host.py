"""`%host` and `%%host`: commands on the lab host, where docker0 and /var/lib/docker are."""

from __future__ import annotations

from labkit.base.errors import InvalidParameter
from labkit.notebook.magics.grammar import substitute_text
from labkit.notebook.magics.line import Notebook
from labkit.notebook.magics.results import Lines, Rows
from labkit.notebook.magics.surface import NotebookSurface

__all__ = ["run_host"]


def run_host(notebook: Notebook, text: str, cell: str | None, *, keep: bool) -> Rows | Lines | None:
    """Run a line, or a cell as an sh script, on the lab host."""

    def work(surface: NotebookSurface) -> int:
        from labkit.notebook.commands.host import execute

        return execute(notebook.session.lab(), _argv(notebook, text, cell), surface)

    return notebook.guard(work, keep=keep)


def _argv(notebook: Notebook, text: str, cell: str | None) -> list[str]:
    """The command of a line or a cell. Where sh would have something to do, sh runs it there."""
    line = notebook.parse(text)
    if cell is not None:
        # The words of the line are the script's $1, $2, …
        return ["sh", "-c", cell, "sh", *line.words]
    if line.background:
        raise InvalidParameter(
            "%host does not run in the background", hint="leave the final & away"
        )
    if not line.words and not line.tail:
        raise InvalidParameter("%host needs a command", hint="%host ip address")
    if line.tail:
        return ["sh", "-c", substitute_text(text, notebook.namespace)]
    return list(line.words)
