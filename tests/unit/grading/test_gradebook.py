"""Tables a spreadsheet can open, and reports that show a student theirs and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from labkit.notebook.grading.exercise import Limits
from labkit.notebook.grading.gradebook import GRADES_COLUMNS, Gradebook, student_view
from labkit.notebook.grading.htmlreport import render
from labkit.notebook.grading.result import Result, ResultStore, slug
from labkit.notebook.grading.verdict import Evidence, Suspicions, decide


def result(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "student": "ann",
        "exercise": "03-walls",
        "status": "partial",
        "reason": "some checks do not hold",
        "score": 1.5,
        "max": 4.0,
        "attempt": "1 of 1 (x.ipynb)",
        "seconds": 1.25,
        "fingerprint": "f",
        "quotes": {"walls": "x = '<script>alert(1)</script>'"},
        "report": {
            "checks": [
                {
                    "name": "a",
                    "title": "open <i>",
                    "state": "failed",
                    "score": 0,
                    "max": 2,
                    "losses": [{"expected": "<img src=x>", "found": "2", "look": "docker ps"}],
                    "problem": "",
                    "hidden": False,
                    "cell": "walls",
                },
                {
                    "name": "b",
                    "title": "COVERT",
                    "state": "failed",
                    "score": 0,
                    "max": 2,
                    "losses": [{"expected": "COVERT-EXPECTED", "found": "", "look": ""}],
                    "problem": "",
                    "hidden": True,
                    "cell": "walls",
                },
            ]
        },
    }
    return Result(**{**values, **changes})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_grades_have_their_columns_and_one_row_each(tmp_path: Path) -> None:
    Gradebook(tmp_path, "Walls").write_tables([result(student="ben"), result()])
    table = rows(tmp_path / "grades.csv")
    assert tuple(table[0]) == GRADES_COLUMNS
    assert [row["student"] for row in table] == ["ann", "ben"]
    assert (table[0]["score"], table[0]["max"], table[0]["seconds"]) == ("1.5", "4", "1.2")


@pytest.mark.parametrize("status", ["forbidden", "unreadable", "not-gradable-here"])
def test_what_a_person_must_decide_is_never_a_zero(tmp_path: Path, status: str) -> None:
    one = result(status=status, score=0.0, review=[f"{status}: why"])
    Gradebook(tmp_path, "Walls").write_tables([one])
    assert rows(tmp_path / "grades.csv")[0]["score"] == ""
    assert rows(tmp_path / "needs-review.csv")[0]["reason"] == f"{status}: why"


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "a\nb"])
def test_a_name_cannot_become_a_formula_or_a_new_row(tmp_path: Path, name: str) -> None:
    Gradebook(tmp_path, "Walls").write_tables([result(student=name)])
    [row] = rows(tmp_path / "grades.csv")
    assert row["student"][0] not in "=+-@\t"
    assert "\n" not in row["student"]


def test_a_report_escapes_everything_and_hides_hidden_checks() -> None:
    page = render(student_view(result(student="<b>ann</b>"), "Walls & co"))
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>ann" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "look with" in page
    assert "docker ps" in page
    assert "COVERT" not in page
    assert "default-src 'none'" in page


def test_a_report_for_review_shows_no_points() -> None:
    view = student_view(result(status="not-gradable-here", reason="/secret/path broke"), "Walls")
    assert view["checks"] == []
    assert view["score"] is None
    assert "/secret/path" not in render(view)


def test_two_students_never_share_a_file_name() -> None:
    names = ["ann", "Ann/..", "../ann", "änn", "ann ", "", "a" * 500, "ann_", "日本"]
    made = [slug(name) for name in names]
    assert len(set(made)) == len(names)
    assert all("/" not in one and not one.startswith(".") and len(one) < 100 for one in made)


def test_a_stored_result_is_used_again_only_for_the_same_files(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save(result())
    assert store.load("ann", "f") == result()
    assert store.load("ann", "other") is None
    (tmp_path / "grader" / "ann.json").write_text("{broken")
    assert store.load("ann", "f") is None


@pytest.mark.parametrize(
    ("trip", "forbidden"),
    [
        (("path", "/srv/subs/bob/x.txt"), True),
        (("path", "/student/07-answers/mine.ipynb"), False),
        (("path", "/tmp/other.ipynb"), True),
        (("path", "/data/table.csv"), False),
        (("path", "/etc/shadow"), True),
        (("glob", "/**/*.ipynb"), True),
        (("command", "cat ../../bob/x.ipynb"), True),
        (("command", "ls -la"), False),
        (("command", "docker run -v /data:/data busybox"), False),
        (("syscall", "ptrace"), True),
        (("connect", "8.8.8.8 port 53"), False),
    ],
)
def test_what_counts_as_reaching_for_others(trip: tuple[str, str], forbidden: bool) -> None:
    found = Suspicions.judge([trip], [Path("/srv/subs")], "/student/07-answers")
    assert bool(found.forbidden) is forbidden


def test_a_broken_lab_is_never_charged_to_the_student() -> None:
    assert decide(Evidence(problem="no zygote"), Limits())[0] == "not-gradable-here"
    assert decide(Evidence(state={"daemon": 1}), Limits())[0] == "not-gradable-here"
    assert decide(Evidence(report=None), Limits())[0] == "not-gradable-here"
