"""`%check` and `%hint`: thin doors to labkit.notebook.grading."""

from __future__ import annotations

from typing import Any

from labkit.notebook.magics.line import Notebook
from labkit.notebook.magics.surface import NotebookSurface

__all__ = ["run_check", "run_hint"]


def run_check(notebook: Notebook, text: str, *, keep: bool) -> Any:
    """Show the report of the exercise named, or of the one this notebook stands in."""
    reports: list[Any] = []

    def work(_: NotebookSurface) -> int:
        from labkit.notebook.grading import instant

        words = notebook.parse(text).words
        notebook.session.ensure()
        reports.append(instant.check(words[0] if words else None))
        return 0

    notebook.guard(work, keep=False)
    return _deliver(reports, keep=keep)


def run_hint(notebook: Notebook, text: str, *, keep: bool) -> Any:
    """Show the next hint: for the first check that does not hold, or for the one named."""
    hints: list[Any] = []

    def work(surface: NotebookSurface) -> int:
        from labkit.notebook.grading import instant

        words = notebook.parse(text).words
        notebook.session.ensure()
        exercise = words[0] if words and _is_exercise(words[0]) else None
        check = " ".join(words[1:] if exercise else words) or None
        found = instant.next_hint(exercise, check)
        if found is None:
            surface.out("No hint is left: every check holds, or has none.\n")
        else:
            hints.append(found)
        return 0

    notebook.guard(work, keep=False)
    return _deliver(hints, keep=keep)


def _is_exercise(word: str) -> bool:
    return word[:2].isdecimal()


def _deliver(found: list[Any], *, keep: bool) -> Any:
    if not found:
        return None
    if keep:
        return found[0]
    from IPython.display import display

    display(found[0])  # type: ignore[no-untyped-call]
    return None
