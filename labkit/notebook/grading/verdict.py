"""From what happened to one word: the status of a submission, and what a person should look at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labkit.notebook.grading.exercise import Limits
from labkit.notebook.grading.report import Report
from labkit.notebook.grading.session import Ending

__all__ = ["NEVER_ZERO", "Evidence", "Status", "Suspicions", "decide"]

Status = Literal[
    "ok",
    "partial",
    "blank",
    "timeout",
    "killed",
    "forbidden",
    "unreadable",
    "not-gradable-here",
]
NEVER_ZERO: frozenset[str] = frozenset({"forbidden", "unreadable", "not-gradable-here"})
"""These have no score until a person has looked."""

_PRIVATE_NAMES = ("solution.ipynb", "checks.py", "grades.csv", "needs-review.csv")
_NOTEBOOK_HUNT = re.compile(r"(?:^|[\s'\"=(])(?:/|\.\./)[^\s'\"]*\.ipynb|find\s+/\s.*ipynb")
_PRIVATE_COMMAND = re.compile(r"\bsolution\.ipynb|\bchecks\.py|/etc/shadow|\bgrades\.csv")


@dataclass(frozen=True)
class Suspicions:
    """What the tripwires noticed, sorted. `forbidden` makes the status; `remarks` only say so."""

    forbidden: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @classmethod
    def judge(
        cls, trips: Iterable[tuple[str, str]], private: Iterable[Path], cwd: str
    ) -> Suspicions:
        """`private` are the grader's own folders; `cwd` is the student's inside the sandbox."""
        folders = [os.path.abspath(path) for path in private]
        forbidden: list[str] = []
        remarks: list[str] = []
        for kind, detail in trips:
            if kind in ("path", "glob"):
                if _is_private_path(detail, folders, cwd):
                    forbidden.append("reached for files of the grader or of other students")
            elif kind == "command":
                if _NOTEBOOK_HUNT.search(detail) or _PRIVATE_COMMAND.search(detail):
                    forbidden.append("ran a command that looks for files of others")
            elif kind == "syscall":
                forbidden.append(f"called {detail}, which the sandbox refuses")
            elif kind == "connect":
                remarks.append(f"tried to reach {detail}: there is no network while grading")
            elif kind == "kill":
                remarks.append(f"tried to end {detail}: that has no effect in the sandbox")
        return cls(tuple(dict.fromkeys(forbidden)), tuple(dict.fromkeys(remarks)))


def _is_private_path(path: str, folders: list[str], cwd: str) -> bool:
    if path.startswith(cwd + "/"):
        return False
    return (
        path.endswith((".ipynb", "/etc/shadow"))
        or os.path.basename(path) in _PRIVATE_NAMES
        or any(path == folder or path.startswith(folder + "/") for folder in folders)
    )


@dataclass
class Evidence:
    """Everything known about one run."""

    report: Report | None = None
    ending: Ending = ""
    ended_cell: int = 0
    unrun: int = 0
    suspicions: Suspicions = field(default_factory=Suspicions)
    state: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    """The grader's own failure, in words."""


def decide(evidence: Evidence, limits: Limits) -> tuple[Status, str]:
    """The status and one sentence that says why."""
    report = evidence.report
    if evidence.suspicions.forbidden:
        return "forbidden", "the notebook " + "; it ".join(evidence.suspicions.forbidden)
    if evidence.ending == "garbage":
        return "forbidden", "the notebook wrote into the channel between its shell and the grader"
    if evidence.problem:
        return "not-gradable-here", evidence.problem
    if evidence.state.get("daemon") is not None:
        return "not-gradable-here", "the lab's daemon ended while the notebook ran"
    if report is None or report.undecided:
        why = "; ".join(one.problem for one in report.undecided) if report else "no check ran"
        return "not-gradable-here", f"some checks could not be decided: {why}"
    if evidence.ending == "timeout":
        return "timeout", f"cell {evidence.ended_cell} was stopped: it ran longer than is allowed"
    struck = _limits_struck(evidence, limits)
    if evidence.ending == "died":
        reason = struck or "the process that runs the cells ended itself or was killed by a cell"
        return "killed", f"cell {evidence.ended_cell}: {reason}"
    if evidence.ending == "left" and evidence.unrun:
        rest = f"{evidence.unrun} later cells with code did not run"
        return "killed", f"cell {evidence.ended_cell} ends the notebook with exit; {rest}"
    if report.passed:
        return "ok", "every check holds"
    if struck:
        return "killed", struck
    return "partial", "some checks do not hold"


def _limits_struck(evidence: Evidence, limits: Limits) -> str:
    state = evidence.state
    if state.get("pids", 0):
        return f"the notebook tried to run more than {limits.pids} processes at once"
    if state.get("oom", 0):
        return f"the notebook used more than {limits.memory_bytes >> 20} MiB of memory"
    if state.get("disk_free", limits.disk_bytes) < 4096:
        return f"the notebook filled its disk of {limits.disk_bytes >> 20} MiB"
    return ""
