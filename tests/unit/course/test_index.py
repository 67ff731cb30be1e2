"""The table of contents is read from the chapters themselves."""

from __future__ import annotations

import json
from pathlib import Path

from labkit.notebook.course.index import chapters

COURSE = Path(__file__).resolve().parents[3]


def test_the_chapters_of_this_checkout_have_titles_questions_and_exercises() -> None:
    found = chapters(COURSE)
    assert [one.number for one in found] == sorted(one.number for one in found)
    assert found
    assert all(one.question.endswith("?") and one.exercise is not None for one in found)


def test_a_broken_notebook_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01-x.ipynb").write_text("{")
    (tmp_path / "notebooks" / "notes.ipynb").write_text("{}")
    assert chapters(tmp_path) == []


def test_notebooks_are_stored_without_outputs() -> None:
    for path in [*COURSE.glob("notebooks/*.ipynb"), *COURSE.glob("exercises/*/*.ipynb")]:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs"), path.name
            assert cell.get("execution_count") is None, path.name
