"""papermill's plug-in point: `papermill nb.ipynb out.ipynb -p seed 7 --engine labkit`.

Cells run in a shell forked from a warm process instead of a kernel started for the occasion,
which is where most of a short notebook's time goes otherwise. A notebook that needs a real
kernel (comms, another language) says so in its metadata, `{"labkit": {"engine": "kernel"}}`, and
gets papermill's own engine.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.notebook.grading.launcher import Zygote
from labkit.notebook.grading.session import CellOutcome, Ending, ShellSession

__all__ = ["Journal", "LabkitEngine", "register"]

_DEFAULT_OUTPUT_BYTES = 4 << 20
_zygote_lock = threading.Lock()
_zygote: Zygote | None = None


@dataclass
class Journal:
    """What happened, for a caller who wants more than the outputs in the notebook.

    `ending` is why the notebook could not go on, `ended_at` the index of that cell, `errors` the
    indices of cells that raised, `dropped_bytes` the output that was not kept, by cell.
    """

    ending: Ending = ""
    ended_at: int = -1
    unrun: int = 0
    errors: list[int] = field(default_factory=list)
    dropped_bytes: dict[int, int] = field(default_factory=dict)
    outcomes: list[tuple[int, CellOutcome]] = field(default_factory=list)


class LabkitEngine:
    """Executes code cells in a forked shell. See `execute_managed_notebook` for its options.

    It has the methods of papermill.engines.Engine without inheriting from it: papermill loads
    its plug-ins while it is itself half imported, so this module must not need it at the top.
    """

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, *args: Any, **kwargs: Any) -> Any:
        """What papermill calls: its own bookkeeping around `execute_managed_notebook`."""
        from papermill.engines import Engine

        return Engine.execute_notebook.__func__(cls, nb, kernel_name, *args, **kwargs)

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """A notebook without a kernelspec is taken for Python."""
        return name or nb.metadata.get("kernelspec", {}).get("name") or "python3"

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        found = language or nb.metadata.get("language_info", {}).get("name")
        return found or nb.metadata.get("kernelspec", {}).get("language") or "python"

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        session: ShellSession | None = None,
        journal: Journal | None = None,
        execution_timeout: float | None = None,
        total_timeout: float | None = None,
        allow_errors: bool = False,
        output_bytes: int = _DEFAULT_OUTPUT_BYTES,
        **kwargs: Any,
    ) -> None:
        """Execute the notebook in `nb_man`.

        `session`: a shell that exists already (in a sandbox); otherwise a plain one is forked.
        `execution_timeout`, `total_timeout`: seconds for one cell and for all of them.
        `allow_errors`: go on after a cell that raised. `journal` is filled in.
        """
        if cls._needs_kernel(nb_man.nb) and session is None:
            from papermill.engines import NBClientEngine

            NBClientEngine.execute_managed_notebook(
                nb_man,
                kernel_name,
                execution_timeout=int(execution_timeout) if execution_timeout else None,
                **kwargs,
            )
            return
        end = None if total_timeout is None else time.monotonic() + total_timeout
        close: Callable[[], None] | None = None
        if session is None:
            session, close = _plain_session(output_bytes)
        try:
            _Run(nb_man, session, journal or Journal(), execution_timeout, end, allow_errors).run()
        finally:
            if close is not None:
                close()

    @classmethod
    def _needs_kernel(cls, nb: Any) -> bool:
        wanted = nb.metadata.get("labkit", {}).get("engine", "shell")
        return wanted == "kernel" or cls.nb_language(nb) != "python"


@dataclass
class _Run:
    manager: Any
    session: ShellSession
    journal: Journal
    cell_s: float | None
    end: float | None
    allow_errors: bool

    def run(self) -> None:
        cells = self.manager.nb.cells
        code = [
            i for i, cell in enumerate(cells) if cell.cell_type == "code" and cell.source.strip()
        ]
        for position, index in enumerate(code):
            self.manager.cell_start(cells[index], index)
            try:
                goes_on = self._one(cells[index], index)
            finally:
                self.manager.cell_complete(cells[index], cell_index=index)
            if not goes_on:
                self.journal.unrun = len(code) - position - 1
                break

    def _one(self, cell: Any, index: int) -> bool:
        import nbformat

        limit = self.cell_s
        if self.end is not None:
            left = max(self.end - time.monotonic(), 0.01)
            limit = left if limit is None else min(limit, left)
        outcome = self.session.run(cell.source, limit)
        cell.outputs = [nbformat.from_dict(output) for output in outcome.outputs]
        cell.execution_count = outcome.count
        self.journal.outcomes.append((index, outcome))
        if outcome.dropped_bytes:
            self.journal.dropped_bytes[index] = outcome.dropped_bytes
        if outcome.ending:
            self.journal.ending, self.journal.ended_at = outcome.ending, index
            if outcome.ending != "left":
                self.manager.cell_exception(cell, cell_index=index)
            return False
        if not outcome.ok:
            self.journal.errors.append(index)
            expected = "raises-exception" in cell.metadata.get("tags", [])
            if not expected and not self.allow_errors:
                self.manager.cell_exception(cell, cell_index=index)
                return False
        return True


def _plain_session(output_bytes: int) -> tuple[ShellSession, Callable[[], None]]:
    global _zygote
    with _zygote_lock:
        if _zygote is None:
            _zygote = Zygote()
            atexit.register(_zygote.close)
        zygote = _zygote
    child, session = zygote.shell(
        cwd=Path.cwd(), environment=dict(os.environ), output_bytes=output_bytes
    )

    def close() -> None:
        session.close()
        child.kill()

    return session, close


def register(engine: type[LabkitEngine] = LabkitEngine) -> None:
    """Make `engine_name="labkit"` known to papermill, installed or run from the tree."""
    from papermill.engines import papermill_engines

    papermill_engines.register("labkit", engine)
