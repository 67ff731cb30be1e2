"""What an instructor and a student are handed: grades.csv, needs-review.csv, a report each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labkit.notebook.grading.htmlreport import render
from labkit.notebook.grading.report import format_points
from labkit.notebook.grading.result import Result, slug, write_atomically

__all__ = ["GRADES_COLUMNS", "Gradebook", "student_view"]

GRADES_COLUMNS = ("student", "exercise", "score", "max", "status", "attempt", "seconds")
_REVIEW_COLUMNS = ("student", "exercise", "status", "score", "reason")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Gradebook:
    """The files in OUT. Written again as a whole after each submission."""

    def __init__(self, out: Path, title: str) -> None:
        self._out = out
        self._title = title
        (out / "reports").mkdir(parents=True, exist_ok=True)

    def write_report(self, result: Result) -> None:
        """The student's JSON and HTML report."""
        view = student_view(result, self._title)
        stem = self._out / "reports" / slug(result.student)
        write_atomically(stem.with_name(stem.name + ".json"), json.dumps(view, indent=1))
        write_atomically(stem.with_name(stem.name + ".html"), render(view))

    def write_tables(self, results: Iterable[Result]) -> None:
        """grades.csv and needs-review.csv."""
        ordered = sorted(results, key=lambda one: one.student)
        grades = [
            (
                one.student,
                one.exercise,
                "" if one.score is None else format_points(one.score),
                format_points(one.max),
                one.status,
                one.attempt,
                f"{one.seconds:.1f}",
            )
            for one in ordered
        ]
        review = [
            (
                one.student,
                one.exercise,
                one.status,
                "" if one.score is None else format_points(one.score),
                reason,
            )
            for one in ordered
            for reason in one.review
        ]
        write_atomically(self._out / "grades.csv", _csv(GRADES_COLUMNS, grades))
        write_atomically(self._out / "needs-review.csv", _csv(_REVIEW_COLUMNS, review))


def student_view(result: Result, title: str) -> dict[str, Any]:
    """What a student may see: visible checks, losses, hints, their own cells."""
    checks = []
    for entry in (result.report or {}).get("checks", []):
        if entry.get("hidden"):
            continue
        shown = {key: entry[key] for key in ("title", "state", "score", "max", "losses")}
        if entry["state"] not in ("passed", "broken", "ungradable"):
            shown["cell"] = result.quotes.get(entry.get("cell", ""), "")
        checks.append(shown)
    return {
        "student": result.student,
        "exercise": result.exercise,
        "title": title,
        "status": result.status,
        "reason": _reason_for_student(result),
        "score": result.score,
        "max": result.max,
        "attempt": result.attempt,
        "checks": checks if result.score is not None else [],
        "cells": result.troubles,
        "notes": result.notes,
    }


def _reason_for_student(result: Result) -> str:
    if result.status == "not-gradable-here":
        return "this could not be decided by the grading program; a person will look at it"
    return result.reason


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def _harmless(value: str) -> str:
    """A spreadsheet runs what begins like a formula: an apostrophe makes it text."""
    flat = " ".join(value.splitlines()) if "\n" in value or "\r" in value else value
    return "'" + flat if flat.startswith(_FORMULA_STARTS) else flat
