"""Which file of which student counts, whatever learning platforms and people do to names."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import InvalidParameter
from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.submissions import Submission, find_submissions

NAME = "03-walls"
TASK = "# Describe the walls of a container in your own words, please."


@pytest.fixture
def exercise(tmp_path: Path) -> Exercise:
    folder = tmp_path / "exercises" / NAME
    folder.mkdir(parents=True)
    (folder / f"{NAME}.ipynb").write_bytes(notebook("# write here"))
    (folder / "checks.py").write_text(
        "from labkit.notebook.grading.checks import check, expect\n"
        "@check(title='t')\ndef a(world): return True\n"
    )
    return Exercise.load(folder)


def notebook(answer: str, *, task: str = TASK, grade_id: str = "walls") -> bytes:
    solution = {"nbgrader": {"grade_id": grade_id, "solution": True}} if grade_id else {}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": task},
        {"cell_type": "code", "metadata": solution, "source": answer},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode()


def put(path: Path, data: bytes, age_s: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_700_000_000 - age_s,) * 2)


def found(source: Path, exercise: Exercise) -> dict[str, Submission]:
    return {one.student: one for one in find_submissions(source, exercise)}


def test_nbgraders_layout(tmp_path: Path, exercise: Exercise) -> None:
    put(tmp_path / "s" / "ann" / NAME / f"{NAME}.ipynb", notebook("a"))
    put(tmp_path / "s" / "ben" / NAME / f"{NAME}.ipynb", notebook("b"))
    put(
        tmp_path / "s" / "ben" / "04-other" / "04-other.ipynb", notebook("c", task="x", grade_id="")
    )
    students = found(tmp_path / "s", exercise)
    assert list(students) == ["ann", "ben"]
    assert students["ann"].attempt == f"1 of 1 ({NAME}.ipynb)"


def test_a_flat_folder_takes_students_from_file_names(tmp_path: Path, exercise: Exercise) -> None:
    for name in ("ann.ipynb", f"{NAME}_ben.ipynb", f"cat-{NAME} (2).ipynb"):
        put(tmp_path / "s" / name, notebook(name))
    assert list(found(tmp_path / "s", exercise)) == ["ann", "ben", "cat"]


def test_a_name_without_the_exercise_is_taken_whole(tmp_path: Path, exercise: Exercise) -> None:
    for name in ("frank_my homework final.ipynb", "gil (1).ipynb", f"hal_{NAME}_final.ipynb"):
        put(tmp_path / "s" / name, notebook(name))
    assert list(found(tmp_path / "s", exercise)) == ["frank_my homework final", "gil", "hal"]


def test_a_moodle_zip(tmp_path: Path, exercise: Exercise) -> None:
    archive = tmp_path / "moodle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("Ann Ångström_12345_assignsubmission_file_/my work.ipynb", notebook("a"))
        file.writestr("Ben_777_assignsubmission_file_/" + f"{NAME}.ipynb", notebook("b"))
        file.writestr("Cat_9_assignsubmission_file_cat.ipynb", notebook("c"))
        file.writestr("__MACOSX/._x.ipynb", b"\0")
    students = found(archive, exercise)
    assert list(students) == ["Ann Ångström_12345", "Ben_777", "Cat_9"]
    assert students["Ann Ångström_12345"].notes == (
        "recognised by its content: the file is called my work.ipynb",
    )


def test_a_zip_inside_the_folder_is_read_too(tmp_path: Path, exercise: Exercise) -> None:
    (tmp_path / "s").mkdir()
    with zipfile.ZipFile(tmp_path / "s" / "all.zip", "w") as file:
        file.writestr("Ann_1_assignsubmission_file_/x.ipynb", notebook("a"))
    assert list(found(tmp_path / "s", exercise)) == ["Ann_1"]


def test_of_several_attempts_the_latest_counts_and_says_so(
    tmp_path: Path, exercise: Exercise
) -> None:
    put(tmp_path / "s" / "ann" / NAME / f"{NAME}.ipynb", notebook("old"), age_s=100)
    put(tmp_path / "s" / "ann" / NAME / f"{NAME}-v2.ipynb", notebook("new"))
    ann = found(tmp_path / "s", exercise)["ann"]
    assert ann.attempt == f"2 of 2 ({NAME}-v2.ipynb)"
    assert b"new" in ann.data


def test_a_broken_upload_after_a_good_one_does_not_replace_it(
    tmp_path: Path, exercise: Exercise
) -> None:
    put(tmp_path / "s" / "ann" / NAME / f"{NAME}.ipynb", notebook("good"), age_s=100)
    put(tmp_path / "s" / "ann" / NAME / f"{NAME} (1).ipynb", b"")
    ann = found(tmp_path / "s", exercise)["ann"]
    assert ann.attempt.startswith("1 of 2")
    assert "the file is empty" in ann.notes[0]


def test_a_wrong_name_is_recognised_by_its_content(tmp_path: Path, exercise: Exercise) -> None:
    put(tmp_path / "s" / "ann" / "Untitled7.ipynb", notebook("a"))
    assert found(tmp_path / "s", exercise)["ann"].notebook is not None


def test_lost_grade_ids_are_made_up_for_by_the_text(tmp_path: Path, exercise: Exercise) -> None:
    put(tmp_path / "s" / "ann" / "x.ipynb", notebook("a", grade_id=""))
    assert found(tmp_path / "s", exercise)["ann"].notebook is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"   \n", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not text"),
        (b"{half a noteb", "not JSON"),
        (b"[1, 2]", "without an object"),
        (b'{"a": 1}', "no list of cells"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_an_unreadable_file_has_no_notebook_but_a_reason(
    tmp_path: Path, exercise: Exercise, data: bytes, reason: str
) -> None:
    put(tmp_path / "s" / "ann" / NAME / f"{NAME}.ipynb", data)
    ann = found(tmp_path / "s", exercise)["ann"]
    assert ann.notebook is None
    assert reason in ann.unreadable


def test_the_wrong_exercise_is_unreadable_not_zero(tmp_path: Path, exercise: Exercise) -> None:
    put(
        tmp_path / "s" / "ann" / NAME / f"{NAME}.ipynb",
        notebook("a", task="# quite another task of another chapter", grade_id="zzz"),
    )
    ann = found(tmp_path / "s", exercise)["ann"]
    assert ann.notebook is None
    assert "does not belong to 03-walls" in ann.unreadable


def test_a_link_is_not_followed(tmp_path: Path, exercise: Exercise) -> None:
    put(tmp_path / "elsewhere.ipynb", notebook("bob's work"))
    place = tmp_path / "s" / "ann" / NAME
    place.mkdir(parents=True)
    (place / f"{NAME}.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
    ann = found(tmp_path / "s", exercise)["ann"]
    assert (ann.notebook, ann.data) == (None, b"")
    assert "symbolic link" in ann.unreadable


def test_the_same_code_twice_is_told_of_both(tmp_path: Path, exercise: Exercise) -> None:
    for name in ("ann", "ben"):
        put(tmp_path / "s" / name / f"{NAME}.ipynb", notebook("x = 42"))
    put(tmp_path / "s" / "cat" / f"{NAME}.ipynb", notebook("x = 43"))
    put(tmp_path / "s" / "dan" / f"{NAME}.ipynb", notebook("# write here"))
    put(tmp_path / "s" / "eve" / f"{NAME}.ipynb", notebook("# write here"))
    students = found(tmp_path / "s", exercise)
    assert {name: one.twins for name, one in students.items()} == {
        "ann": ("ben",),
        "ben": ("ann",),
        "cat": (),
        "dan": (),
        "eve": (),
    }


def test_a_deleted_given_cell_does_not_matter(tmp_path: Path, exercise: Exercise) -> None:
    data = json.loads(notebook("x = 1"))
    del data["cells"][0]
    put(tmp_path / "s" / "ann" / f"{NAME}.ipynb", json.dumps(data).encode())
    assert found(tmp_path / "s", exercise)["ann"].notebook is not None


@pytest.mark.parametrize("make", ["nothing", "empty", "text"])
def test_a_place_without_submissions_says_what_is_expected(
    tmp_path: Path, exercise: Exercise, make: str
) -> None:
    place = tmp_path / "s"
    if make == "empty":
        place.mkdir()
    elif make == "text":
        place.write_text("hello")
    with pytest.raises(InvalidParameter):
        find_submissions(place, exercise)


def test_blank_is_what_has_no_code_of_its_own(exercise: Exercise) -> None:
    from labkit.notebook.grading.notebookfile import parse_notebook

    assert exercise.is_blank(parse_notebook(notebook("# write here  \n\n")))
    assert exercise.is_blank(parse_notebook(notebook("# a comment of mine")))
    assert not exercise.is_blank(parse_notebook(notebook("# write here\nx = 1")))


def test_an_unknown_limit_names_the_known_ones(exercise: Exercise) -> None:
    (exercise.folder / "exercise.toml").write_text("[limits]\nmemroy = '1g'\n")
    with pytest.raises(InvalidParameter, match="memroy"):
        Exercise.load(exercise.folder)
