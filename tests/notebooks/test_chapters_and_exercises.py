"""Chapters run from top to bottom; solutions earn all points, untouched exercises none."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.base.paths import LabPaths
from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.lab import LabFactory
from labkit.notebook.grading.launcher import Zygote
from labkit.notebook.grading.report import MIME_TYPE
from labkit.notebook.grading.runner import Grader
from labkit.notebook.grading.selfcheck import check_itself

from .conftest import ROOT, need_images, remove_everything

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXERCISES = sorted(path.parent for path in (ROOT / "exercises").glob("*/checks.py"))
SOLUTIONS = [folder / "solution.ipynb" for folder in EXERCISES]
ALL = [*CHAPTERS, *SOLUTIONS, *(folder / f"{folder.name}.ipynb" for folder in EXERCISES)]

namespaces = pytest.mark.namespaces


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def execute(path: Path, out: Path, *, engine: str | None, seed: int, cwd: Path) -> Any:
    """Run a notebook as `papermill PATH OUT -p seed N [--engine …]` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill

        from labkit.notebook.grading.papermill_engine import register

        register()
        return papermill.execute_notebook(
            str(path),
            str(out),
            parameters={"seed": seed},
            engine_name=engine,
            progress_bar=False,
            cwd=str(cwd),
            execution_timeout=90,
        )


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_notebook_takes_a_seed(path: Path) -> None:
    tagged = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(tagged) == 1
    assert "seed" in tagged[0]


@namespaces
@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_a_chapter_runs_from_top_to_bottom(path: Path, lab: LabPaths, tmp_path: Path) -> None:
    need_images(lab, path)
    done = execute(path, tmp_path / "out.ipynb", engine="labkit", seed=7, cwd=tmp_path)
    assert any(cell.get("outputs") for cell in done.cells)


@namespaces
@pytest.mark.parametrize("folder", EXERCISES, ids=name)
def test_an_untouched_exercise_runs_and_reports_in_its_notebook(
    folder: Path, private_lab: LabPaths, tmp_path: Path
) -> None:
    path = folder / f"{folder.name}.ipynb"
    need_images(private_lab, path)
    done = execute(path, tmp_path / "out.ipynb", engine="labkit", seed=7, cwd=folder)
    reports = [
        output["data"][MIME_TYPE]
        for cell in done.cells
        for output in cell.get("outputs", [])
        if MIME_TYPE in output.get("data", {})
    ]
    assert reports
    assert reports[-1]["score"] == 0
    remove_everything(private_lab)


@namespaces
@pytest.mark.slow
@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_a_solution_runs_in_an_ordinary_kernel_too(
    path: Path, private_lab: LabPaths, tmp_path: Path
) -> None:
    need_images(private_lab, path.parent)
    done = execute(path, tmp_path / "out.ipynb", engine=None, seed=7, cwd=path.parent)
    assert done.metadata.papermill.exception is None
    remove_everything(private_lab)


@pytest.fixture(scope="module")
def factory() -> Iterator[LabFactory]:
    with (
        tempfile.TemporaryDirectory(prefix="labkit-test-images-") as images,
        Zygote(labs=True) as zygote,
    ):
        os.chmod(images, 0o711)
        made = LabFactory(zygote, images=Path(images))
        yield made
        made.close()


@namespaces
@pytest.mark.parametrize("folder", EXERCISES, ids=name)
def test_a_solution_earns_all_points_and_an_untouched_exercise_none(
    folder: Path, factory: LabFactory, private_lab: LabPaths
) -> None:
    need_images(private_lab, folder)
    exercise = Exercise.load(folder)
    grader = Grader(exercise, factory, exercise.limits)
    found = check_itself(grader, jobs=1, count=1, say=lambda text: None)
    if found.unmet:
        pytest.skip(f"this machine cannot enforce {', '.join(found.unmet)}")
    if missing := [one for one in found.problems if "is not available" in one]:
        pytest.skip(missing[0])  # a sandbox has no network to fetch a package from
    assert found.problems == []


@pytest.mark.parametrize("folder", EXERCISES, ids=name)
def test_an_exercise_has_three_checks_or_more_with_hints_and_known_cells(folder: Path) -> None:
    exercise = Exercise.load(folder)
    assert len(exercise.checks) >= 3
    for one in exercise.checks:
        assert one.hints, one.title
        assert exercise.notebook.by_grade_id(one.cell) is not None, one.cell
