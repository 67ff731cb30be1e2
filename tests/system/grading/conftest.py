"""One zygote and one factory of labs for all tests here; nothing of them may be left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.lab import LabFactory
from labkit.notebook.grading.launcher import Zygote
from labkit.notebook.grading.notebookfile import parse_notebook
from labkit.notebook.grading.result import Result
from labkit.notebook.grading.runner import Grader
from labkit.notebook.grading.submissions import Submission

from . import tiny


def namespaces_missing() -> str:
    try:
        allowed = int(Path("/proc/sys/user/max_user_namespaces").read_text())
    except (OSError, ValueError):
        allowed = 0
    return "" if allowed else "user namespaces are not available here"


def processes_of(parent: int) -> set[int]:
    """Every process below `parent`."""
    found: set[int] = set()
    queue = [parent]
    while queue:
        one = queue.pop()
        try:
            text = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue
        children = {int(word) for word in text.split()}
        found |= children
        queue += children
    return found


def groups_of(factory: LabFactory) -> list[Path]:
    groups = factory._groups
    return [top / groups.name for top in groups.tops.values() if (top / groups.name).exists()]


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFactory]:
    if reason := namespaces_missing():
        pytest.skip(reason)
    # Not below pytest's own folder: that one is closed to the ids a submission runs under.
    with (
        tempfile.TemporaryDirectory(prefix="labkit-test-images-") as images,
        Zygote(labs=True) as zygote,
    ):
        os.chmod(images, 0o711)
        made = LabFactory(zygote, images=Path(images))
        yield made
        folder = made._work.path
        made.close()
        assert not folder.exists()
        assert groups_of(made) == []


@pytest.fixture
def answers_exercise(tmp_path: Path) -> Exercise:
    return Exercise.load(tiny.write_exercise(tmp_path / "exercises"))


@pytest.fixture
def grade(factory: LabFactory, answers_exercise: Exercise) -> Iterator[Callable[..., Result]]:
    """Grade a notebook made of the given code cells; nothing of it may survive."""
    zygote = factory._zygote
    before = processes_of(zygote.pid)

    def run(*cells: str, exercise: Exercise | None = None, **options: Any) -> Result:
        chosen = exercise or answers_exercise
        data = tiny.as_bytes(*cells)
        submission = Submission("sam", "sam.ipynb", "1 of 1", data, parse_notebook(data))
        grader = Grader(chosen, factory, chosen.limits, **options)
        return grader.grade(submission)

    yield run
    assert processes_of(zygote.pid) == before
    for group in groups_of(factory):
        assert [one for one in group.iterdir() if one.is_dir()] == []
