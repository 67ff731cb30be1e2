"""Grading one submission from its bytes to a Result."""

from __future__ import annotations

# mypy: allow-untyped-calls
import ast
import contextlib
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.base.errors import LabkitError
from labkit.notebook.grading.exercise import Exercise, Limits
from labkit.notebook.grading.lab import Lab, LabFactory
from labkit.notebook.grading.notebookfile import Notebook
from labkit.notebook.grading.plan import STUDENT_HOME
from labkit.notebook.grading.report import Report, run_all
from labkit.notebook.grading.result import Result, fingerprint, slug
from labkit.notebook.grading.submissions import Submission
from labkit.notebook.grading.verdict import Evidence, Suspicions, decide

__all__ = ["Cancelled", "Grader", "default_seed"]

_OWN_NAMES = frozenset({"check", "expect", "World", "Verdict", "run_checks", "run_all"})
_MAX_QUOTE = 4000


class Cancelled(Exception):
    """The run was interrupted; this submission has no result yet."""


@dataclass
class Grader:
    """Grades submissions of one exercise. Safe to use from several threads.

    `private` are the grader's own folders, for recognising who reaches for them; `executed` is
    where the run notebooks are kept for the instructor (None: nowhere).
    """

    exercise: Exercise
    factory: LabFactory
    limits: Limits
    seed: int | None = None
    private: tuple[Path, ...] = ()
    cancelled: Callable[[], bool] = lambda: False
    unmet_needs: tuple[str, ...] = ()
    executed: Path | None = None
    _maximum: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._maximum = self.exercise.max_score

    def grade(self, submission: Submission) -> Result:
        """The result of one submission. Raises only Cancelled."""
        start = time.monotonic()
        result = self._result(submission)
        notebook = submission.notebook
        if notebook is None:
            result.status, result.reason = "unreadable", submission.unreadable
            result.score = None
        elif self.unmet_needs:
            result.status, result.score = "not-gradable-here", None
            result.reason = "this machine cannot enforce: " + ", ".join(self.unmet_needs)
        elif self.exercise.is_blank(notebook):
            result.status, result.score = "blank", 0.0
            result.reason = "no code was written"
        else:
            self._run(notebook, result)
        if result.score is None:
            result.review.insert(0, f"{result.status}: {result.reason}")
        result.seconds = round(time.monotonic() - start, 2)
        return result

    def warm_up(self) -> None:
        """Import what the first notebook would otherwise wait for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from labkit.notebook.grading import papermill_engine
        papermill_engine.register()

    def run_notebook(self, notebook: Notebook) -> Result:
        """Grade a notebook of our own (solution or untouched exercise), whatever it holds."""
        own = Submission("(self-check)", "", "", b"", notebook)
        result = self._result(own)
        start = time.monotonic()
        self._run(notebook, result)
        result.seconds = round(time.monotonic() - start, 2)
        return result

    def _result(self, submission: Submission) -> Result:
        review = []
        if submission.twins:
            review.append(
                "the same code, character for character, as: " + ", ".join(submission.twins)
            )
        return Result(
            student=submission.student,
            exercise=self.exercise.name,
            status="partial",
            reason="",
            score=0.0,
            max=self._maximum,
            attempt=submission.attempt,
            seconds=0.0,
            fingerprint=fingerprint(submission, self.exercise, self.seed),
            notes=list(submission.notes),
            review=review,
        )

    def _run(self, notebook: Notebook, result: Result) -> None:
        evidence = Evidence()
        try:
            lab = self.factory.open(self.exercise, limits=self.limits, cancelled=self.cancelled)
        except (LabkitError, OSError) as error:
            evidence.problem = f"the grader could not make a lab: {error}"
        else:
            try:
                self._in_lab(lab, notebook, evidence, result)
            except LabkitError as error:
                evidence.problem = evidence.problem or error.message
            finally:
                left = lab.close()
            if left:
                result.review.append("control groups could not be removed")
        if self.cancelled():
            raise Cancelled
        result.status, result.reason = decide(evidence, self.limits)
        result.reason = _scrub(result.reason)
        if evidence.report is not None:
            result.report = _report_json(evidence.report)
            result.score = evidence.report.score
        result.__post_init__()
        result.review += evidence.suspicions.remarks
        result.notes += evidence.suspicions.remarks

    def _in_lab(self, lab: Lab, notebook: Notebook, evidence: Evidence, result: Result) -> None:
        lab.wait_ready()
        seed = self.seed if self.seed is not None else default_seed(self.exercise.notebook)
        journal = self._execute(lab, notebook, seed, result)
        evidence.ending = journal.ending
        evidence.ended_cell = _number(notebook, journal.ended_at)
        evidence.unrun = journal.unrun
        if journal.ending == "cancelled":
            return
        evidence.suspicions = Suspicions.judge(
            lab.session.trips, self.private, f"{STUDENT_HOME}/{self.exercise.name}"
        )
        evidence.state = lab.state()
        evidence.report = run_all(self.exercise.name, self.exercise.checks, lab.world(seed=seed))
        result.quotes = _quotes(notebook, self.exercise)
        result.notes += _redefinitions(notebook)

    def _execute(self, lab: Lab, notebook: Notebook, seed: int, result: Result) -> Any:
        """Run the cells with papermill, in the lab's shell."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from papermill import execute_notebook
            from papermill.exceptions import PapermillExecutionError

            from labkit.notebook.grading.papermill_engine import Journal, LabkitEngine, register
        register(LabkitEngine)
        # A submission without a parameters cell is no news to the person who grades.
        logging.getLogger("papermill").setLevel(logging.ERROR)
        journal = Journal()
        target = self.executed / f"{slug(result.student)}.ipynb" if self.executed else None
        # A cell that raised is in the journal; the checks decide what that is worth.
        with contextlib.suppress(PapermillExecutionError):
            execute_notebook(
                _clean_document(notebook),
                str(target) if target else None,
                parameters={"seed": seed},
                engine_name="labkit",
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                session=lab.session,
                journal=journal,
                execution_timeout=self.limits.cell_s,
                total_timeout=self.limits.total_s,
                allow_errors=True,
            )
        result.troubles = _troubles(journal, notebook)
        for index, count in journal.dropped_bytes.items():
            number = _number(notebook, index)
            result.notes.append(f"cell {number} printed {count:,} bytes more than are kept")
        return journal


def default_seed(notebook: Notebook) -> int:
    """The `seed` that the exercise's own parameters cell sets; 0 when it sets none."""
    for cell in notebook.code:
        if "parameters" in cell.tags:
            match = re.search(r"^\s*seed\s*(?::[^=]+)?=\s*(-?\d+)", cell.source, re.MULTILINE)
            if match:
                return int(match.group(1))
    return 0


def _number(notebook: Notebook, index: int) -> int:
    """The student's number (from 1) of the cell papermill ran at `index`.

    papermill inserts one cell: after the one tagged `parameters`, or at the top.
    """
    tagged = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.tags]
    inserted = tagged[0] + 1 if tagged else 0
    return index + (0 if index >= inserted else 1)


def _clean_document(notebook: Notebook) -> Any:
    """A fresh document with the student's sources and nothing else of the file.

    Odd metadata, old formats and stored outputs cannot disturb anybody that way.
    """
    import nbformat.v4 as v4

    cells = []
    for number, cell in enumerate(notebook.cells):
        metadata: dict[str, Any] = {"tags": [tag for tag in cell.tags if tag == "parameters"]}
        make = v4.new_code_cell if cell.is_code else v4.new_markdown_cell
        cells.append(make(cell.source, id=f"cell-{number}", metadata=metadata))
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _quotes(notebook: Notebook, exercise: Exercise) -> dict[str, str]:
    """The student's own cells that visible checks judge, by grade_id."""
    wanted = {one.cell for one in exercise.checks if not one.hidden}
    found = ((name, notebook.by_grade_id(name)) for name in sorted(wanted))
    return {name: cell.source[:_MAX_QUOTE] for name, cell in found if cell is not None}


def _troubles(journal: Any, notebook: Notebook) -> list[dict[str, Any]]:
    found = []
    for index, outcome in journal.outcomes:
        error = next((o for o in outcome.outputs if o["output_type"] == "error"), None)
        if error is not None:
            text = _scrub(f"{error['ename']}: {error['evalue']}")[:2000]
            found.append({"cell": _number(notebook, index), "error": text})
    return found[:20]


def _scrub(text: str) -> str:
    """Without the places where the grader's Python and labkit are installed."""
    import labkit

    package = str(Path(labkit.__file__).resolve().parent.parent)
    for place in sorted({sys.prefix, sys.base_prefix, package}, key=len, reverse=True):
        if place not in ("/", "/usr"):
            text = text.replace(place, "…")
    return text


def _redefinitions(notebook: Notebook) -> list[str]:
    """Notes on cells that redefine what grades them: it has no effect, and they may not know."""
    found: set[str] = set()
    for cell in notebook.code:
        try:
            tree = ast.parse(cell.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in _OWN_NAMES:
                found.add(node.name)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                if name in _OWN_NAMES:
                    found.add(name)
    return [
        f"the notebook redefines {name}; checks run elsewhere, so this changes nothing"
        for name in sorted(found)
    ]


def _report_json(report: Report) -> dict[str, Any]:
    table = report.to_json()
    for entry, result in zip(table["checks"], report.results, strict=True):
        for loss in entry["losses"]:
            loss.update({key: _scrub(text) for key, text in loss.items()})
        entry["hidden"] = result.check.hidden
        entry["cell"] = result.check.cell
    return table
