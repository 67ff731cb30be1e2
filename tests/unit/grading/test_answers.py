"""Where a student's answers are kept: the writer and the reader must mean the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.notebook.grading.answers import answers_file, read_answers, record
from labkit.notebook.grading.instant import find_exercise


@pytest.fixture
def nobody_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LABKIT_ANSWERS", "LABKIT_EXERCISE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LABKIT_RUN", str(tmp_path / "run"))
    folder = tmp_path / "exercises" / "07-volumes"
    folder.mkdir(parents=True)
    (folder / "checks.py").write_text("")
    return folder


def test_an_answer_given_in_an_exercises_folder_is_where_check_looks(
    nobody_says_which: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nobody_says_which)
    record("exit-code", 137)
    assert read_answers(answers_file(find_exercise().name)) == {"exit-code": 137}


def test_elsewhere_answers_go_to_a_file_of_no_exercise(
    nobody_says_which: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nobody_says_which.parent)
    record("predicted:01-chroot", "an error")
    assert answers_file().name == "notebook.json"
