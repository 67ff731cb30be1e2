"""What is kept about one graded submission, and the files it is kept in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.submissions import Submission
from labkit.notebook.grading.verdict import NEVER_ZERO

__all__ = ["Result", "ResultStore", "fingerprint", "slug", "write_atomically"]


@dataclass
class Result:
    """One submission's outcome. `score` is None where a person must decide.

    `report` holds every check, hidden ones marked; `review` says why a person should look;
    `quotes` are cells of the student's own by grade_id, `troubles` cells that raised or stopped.
    """

    student: str
    exercise: str
    status: str
    reason: str
    score: float | None
    max: float
    attempt: str
    seconds: float
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None
    quotes: dict[str, str] = field(default_factory=dict)
    troubles: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.status in NEVER_ZERO:
            self.score = None


def fingerprint(submission: Submission, exercise: Exercise, seed: int | None) -> str:
    """Changes when the submission, the exercise, its checks or the seed change."""
    digest = hashlib.sha256()
    for part in (
        submission.data,
        submission.student.encode("utf-8", "surrogateescape"),
        exercise.notebook_path.read_bytes(),
        (exercise.folder / "checks.py").read_bytes(),
        repr((seed, exercise.limits)).encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def slug(student: str) -> str:
    """A file name for a student: readable, and never two students' the same."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", student).strip("._")[:60]
    if plain == student and plain:
        return plain
    return (
        f"{plain or 'student'}-{hashlib.sha256(student.encode('utf-8', 'replace')).hexdigest()[:8]}"
    )


class ResultStore:
    """Finished results under OUT/grader, one file each: what makes a run resumable."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "grader"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self, student: str, mark: str) -> Result | None:
        """The result of an earlier run, when it is about the very same files."""
        try:
            table = json.loads((self._folder / f"{slug(student)}.json").read_text("utf-8"))
            found = Result(**table)
        except (OSError, ValueError, TypeError):
            return None
        return found if found.fingerprint == mark and found.student == student else None

    def save(self, result: Result) -> None:
        write_atomically(
            self._folder / f"{slug(result.student)}.json", json.dumps(asdict(result), indent=1)
        )


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: an interrupted run must not leave half a report."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
