"""`labkit grade` as an instructor uses it, from folder to tables."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.notebook.grading.cli import main

from . import tiny
from .conftest import namespaces_missing

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.skipif(bool(namespaces_missing()), reason=namespaces_missing() or "-"),
]


@pytest.fixture
def exercise(tmp_path: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(short_tmp / "home"))
    monkeypatch.setenv("LABKIT_RUN", str(short_tmp / "run"))
    return tiny.write_exercise(tmp_path / "exercises")


@pytest.fixture
def class_of_six(tmp_path: Path) -> Path:
    """Six students as a learning platform would deliver them."""
    top = tmp_path / "submitted"
    hand_in(top, "ann", json.dumps(tiny.notebook(tiny.SUM, tiny.WORDS)).encode())
    hand_in(top, "ben", json.dumps(tiny.notebook(tiny.SUM, "record('words', ['cat'])")).encode())
    hand_in(top, "cat", (tmp_path / "exercises" / tiny.NAME / f"{tiny.NAME}.ipynb").read_bytes())
    hand_in(top, "dan", b"")
    hand_in(top, "eve", tiny.as_bytes(tiny.IMPORT, "while True: pass"))
    hand_in(
        top,
        "=fox",
        json.dumps(tiny.notebook(tiny.SUM + " ", tiny.WORDS + "  # mine")).encode(),
        name="Untitled.ipynb",
    )
    return top


def hand_in(top: Path, student: str, data: bytes, name: str = f"{tiny.NAME}.ipynb") -> None:
    place = top / student / tiny.NAME
    place.mkdir(parents=True)
    (place / name).write_bytes(data)
    (place / name).chmod(0o444)


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def fingerprints(top: Path) -> dict[str, tuple[str, float, int]]:
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime,
            path.stat().st_mode,
        )
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


def run(exercise: Path, submissions: Path, out: Path, *more: str) -> int:
    return main([str(exercise), "--submissions", str(submissions), "--out", str(out), *more])


def test_a_class_is_graded(
    exercise: Path, class_of_six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprints(class_of_six)
    assert run(exercise, class_of_six, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "reference solution: 5 of 5" in said.out
    assert "untouched exercise: 0 of 5" in said.out
    assert "estimated time" in said.out
    grades = table(tmp_path / "out" / "grades.csv")
    found = {name: (row["status"], row["score"]) for name, row in grades.items()}
    assert found == {
        "ann": ("ok", "5"),
        "ben": ("partial", "4"),
        "cat": ("blank", "0"),
        "dan": ("unreadable", ""),
        "eve": ("timeout", "0"),
        "'=fox": ("ok", "5"),
    }
    assert list(table(tmp_path / "out" / "needs-review.csv")) == ["dan"]
    assert fingerprints(class_of_six) == before


def test_reports_show_students_their_losses_and_no_more(
    exercise: Path, class_of_six: Path, tmp_path: Path
) -> None:
    assert run(exercise, class_of_six, tmp_path / "out") == 0
    reports = tmp_path / "out" / "reports"
    assert len(list(reports.glob("*.html"))) == 6
    page = (reports / "ben.html").read_text()
    assert "both words are there" in page
    assert "record(&#x27;words&#x27;, [&#x27;cat&#x27;])" in page
    everything = "".join(path.read_text() for path in reports.iterdir())
    for private in ("HIDDEN", "secret thing", str(tmp_path), str(Path.home()), sys.prefix):
        assert private not in everything


def test_a_second_run_grades_only_what_changed(
    exercise: Path, class_of_six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(exercise, class_of_six, tmp_path / "out") == 0
    place = class_of_six / "dan" / tiny.NAME / f"{tiny.NAME}.ipynb"
    place.unlink()
    place.write_bytes(tiny.as_bytes(tiny.RIGHT))
    capsys.readouterr()
    assert run(exercise, class_of_six, tmp_path / "out", "--resume") == 0
    assert "5 of 6 are graded already" in capsys.readouterr().out
    assert table(tmp_path / "out" / "grades.csv")["dan"]["score"] == "5"


def test_checks_that_the_solution_fails_grade_nobody(
    exercise: Path, class_of_six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (exercise / "checks.py").open("a") as file:
        file.write("\n@check(title='impossible')\ndef never(world):\n    return False\n")
    assert run(exercise, class_of_six, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "the reference solution reaches only 5 of 6" in said.err
    assert not (tmp_path / "out" / "grades.csv").exists()


def test_points_for_nothing_grade_nobody(
    exercise: Path, class_of_six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (exercise / "checks.py").open("a") as file:
        file.write("\n@check(title='a gift')\ndef gift(world):\n    return True\n")
    assert run(exercise, class_of_six, tmp_path / "out") == 2
    assert "untouched exercise already gets 1 of 6: a gift" in capsys.readouterr().err


def test_what_this_machine_cannot_enforce_is_not_gradable_and_not_zero(
    exercise: Path, class_of_six: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (exercise / "exercise.toml").read_text()
    (exercise / "exercise.toml").write_text('needs = ["memory"]\n' + settings)
    from labkit.notebook.grading import cgroups

    monkeypatch.setattr(cgroups.GroupSet, "find", classmethod(lambda cls: cls("none", {})))
    assert run(exercise, class_of_six, tmp_path / "out") == 0
    grades = table(tmp_path / "out" / "grades.csv")
    assert (grades["ann"]["status"], grades["ann"]["score"]) == ("not-gradable-here", "")
    assert grades["dan"]["status"] == "unreadable"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{exercise}/nowhere", "{subs}", "{out}"], "there is no exercise folder"),
        (["{exercise}", "{subs}/nowhere", "{out}"], "there is no"),
        (["{exercise}", "{subs}", "{subs}/out"], "among the submissions"),
    ],
)
def test_wrong_folders_are_refused_in_words(
    exercise: Path,
    class_of_six: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    names = {"exercise": exercise, "subs": class_of_six, "out": tmp_path / "out"}
    a, b, c = (Path(one.format(**names)) for one in arguments)
    assert run(a, b, c) == 2
    assert words in capsys.readouterr().err


def test_an_interrupted_run_keeps_what_is_done_and_goes_on_later(
    exercise: Path, tmp_path: Path
) -> None:
    top = tmp_path / "submitted"
    hand_in(top, "ann", tiny.as_bytes(tiny.RIGHT))
    slow = f"{tiny.RIGHT}\nimport time; time.sleep(2.5)"
    for number in range(6):
        hand_in(top, f"zed{number}", tiny.as_bytes(slow, str(number)))
    command = [sys.executable, "-m", "labkit.notebook.grading.cli", str(exercise)]
    command += ["--submissions", str(top), "--out", str(tmp_path / "out"), "--jobs", "1"]
    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("1 of 7"):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "continues where it stopped" in rest
    first = table(tmp_path / "out" / "grades.csv")
    assert first["ann"]["status"] == "ok"
    assert len(first) < 7
    assert run(exercise, top, tmp_path / "out") == 0
    second = table(tmp_path / "out" / "grades.csv")
    assert len(second) == 7
    assert second["ann"] == first["ann"]
    assert {row["status"] for row in second.values()} == {"ok"}


def reachable_python(uid: int) -> str:
    """An interpreter of our version that `uid` may run with our packages; "" when there is none."""
    for program in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            done = subprocess.run(
                [program, "-c", "import IPython, papermill"],
                user=uid,
                group=uid,
                extra_groups=[],
                env=plain_environment(),
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return program
    return ""


def plain_environment() -> dict[str, str]:
    packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    root = str(Path(__file__).resolve().parents[3])
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join([root, *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.mark.root
def test_an_ordinary_user_can_grade_too(short_tmp: Path) -> None:
    uid = 61234
    if subprocess.run(
        ["unshare", "--user", "true"], user=uid, stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("no user namespaces for ordinary users here")
    program = reachable_python(uid)
    if not program:
        pytest.skip("no Python with IPython and papermill that another user may run")
    exercise = tiny.write_exercise(short_tmp)
    hand_in(short_tmp / "subs", "ann", json.dumps(tiny.notebook(tiny.SUM, tiny.WORDS)).encode())
    hand_in(short_tmp / "subs", "eve", tiny.as_bytes("import os\nos._exit(0)"))
    for place, _, names in os.walk(short_tmp):
        for name in ("", *names):
            os.chown(os.path.join(place, name), uid, uid)
    folders = ["--submissions", str(short_tmp / "subs"), "--out", str(short_tmp / "out")]
    done = subprocess.run(
        [program, "-m", "labkit.notebook.grading.cli", str(exercise), *folders],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd=short_tmp,
        env={
            **plain_environment(),
            "HOME": str(short_tmp),
            "LABKIT_HOME": str(short_tmp / "home"),
            "LABKIT_RUN": str(short_tmp / "run"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "one id, this user's" in done.stdout
    grades = table(short_tmp / "out" / "grades.csv")
    assert (grades["ann"]["status"], grades["ann"]["score"]) == ("ok", "5")
    assert (grades["eve"]["status"], grades["eve"]["score"]) == ("killed", "0")
