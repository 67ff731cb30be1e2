"""A tiny exercise without a lab, written out when the tests run: only recorded answers count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["NAME", "RIGHT", "as_bytes", "notebook", "write_exercise"]

NAME = "07-answers"

CHECKS = """
from labkit.notebook.grading.checks import check, expect


@check(title="the sum is right", points=2, hint=["add", "2 + 3 + seed"], cell="sum")
def total(world):
    found = world.answer("sum")
    return expect(found == 5 + world.seed, expected=5 + world.seed, found=found, look="print(sum)")


@check(title="both words are there", points=2, cell="words")
def words(world):
    found = world.answer("words", [])
    yield expect("cat" in found, expected="cat", found=found)
    yield expect("dog" in found, expected="dog", found=found)


@check(title="a secret thing", points=1, hidden=True)
def secret(world):
    return expect(world.answer("sum", 0) > 0, expected="HIDDEN-EXPECTATION", found="nothing")
"""

SETTINGS = """
title = "Answers only"
lab = false

[limits]
cell_s = 3
total_s = 6
memory = "256m"
pids = 64
disk = "16m"
"""

IMPORT = "from labkit.notebook.grading.answers import record"
SUM, WORDS = 'record("sum", 2 + 3 + seed)', 'record("words", ["cat", "dog"])'

RIGHT = f"{IMPORT}\nseed = 3\n{SUM}\n{WORDS}"
"""One cell that earns every point."""


def cell(
    source: str, grade_id: str = "", *, solution: bool = False, tags: Any = ()
) -> dict[str, Any]:
    """A code cell with nbgrader's metadata."""
    metadata: dict[str, Any] = {}
    if grade_id:
        metadata["nbgrader"] = {"grade_id": grade_id, "solution": solution, "schema_version": 3}
    if tags:
        metadata["tags"] = list(tags)
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def notebook(total: str, words: str) -> dict[str, Any]:
    """The exercise's notebook with these two solution cells."""
    task = "# Answers only\n\nAn exercise that the tests of the grader use."
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": task},
        cell("seed = 3", tags=["parameters"]),
        cell(IMPORT, "setup"),
        cell(total, "sum", solution=True),
        cell(words, "words", solution=True),
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def as_bytes(*sources: str) -> bytes:
    """A notebook of nothing but these code cells."""
    document = {
        "cells": [cell(source) for source in sources],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    return json.dumps(document).encode()


def write_exercise(parent: Path) -> Path:
    """Write the exercise's folder below `parent`."""
    folder = parent / NAME
    folder.mkdir(parents=True)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "exercise.toml").write_text(SETTINGS)
    untouched = notebook("# record the sum of 2, 3 and seed", "# record a list of two pets")
    (folder / f"{NAME}.ipynb").write_text(json.dumps(untouched))
    (folder / "solution.ipynb").write_text(json.dumps(notebook(SUM, WORDS)))
    return folder
