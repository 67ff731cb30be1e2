"""What a check gives: verdicts, partial credit, and whose fault a failure is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter, NotFound
from labkit.notebook.grading.checks import (
    Check,
    Missing,
    NotGradableHere,
    Verdict,
    check,
    evaluate,
    expect,
    load_checks,
)
from labkit.notebook.grading.report import MIME_TYPE, run_all
from labkit.notebook.grading.world import World


class FakeApi:
    """Answers from a table; anything else is not found, as a daemon would say."""

    def __init__(self, table: dict[str, object]) -> None:
        self.table = table

    def get(self, path: str, query: object = None) -> object:
        if path not in self.table:
            raise NotFound(f"no {path}")
        return self.table[path]


def world(table: dict[str, object] | None = None, **answers: object) -> World:
    return World(FakeApi(table or {}), None, answers=answers)  # type: ignore[arg-type]


def made(function: object, points: float = 4) -> Check:
    return Check("one", function, "one thing", points)  # type: ignore[arg-type]


def test_a_verdict_that_holds_earns_all_points() -> None:
    result = evaluate(made(lambda w: expect(True, expected=1, found=1)), world())
    assert (result.state, result.score) == ("passed", 4)


def test_several_verdicts_share_the_points_by_weight() -> None:
    def three(_: World) -> Iterator[Verdict]:
        yield expect(True, expected="a", found="a", weight=2)
        yield expect(False, expected="b", found="c")
        yield expect(True, expected="d", found="d")

    result = evaluate(made(three), world())
    assert (result.state, result.score) == ("partial", 3)
    assert [loss.expected for loss in result.losses] == ["b"]


def test_something_missing_is_the_students_loss_in_words() -> None:
    result = evaluate(made(lambda w: expect(w.container("web"), expected=1, found=1)), world())
    assert (result.state, result.score) == ("failed", 0)
    assert result.losses[0].expected == "a container named web"
    assert result.losses[0].look == "docker ps -a"


def test_an_answer_not_given_is_the_students_loss() -> None:
    result = evaluate(made(lambda w: expect(w.answer("n") == 1, expected=1, found=2)), world())
    assert result.state == "failed"


def test_verdicts_before_something_missing_still_count() -> None:
    def two(w: World) -> Iterator[Verdict]:
        yield expect(True, expected="a", found="a")
        w.container("web")

    assert evaluate(made(two), world()).score == 2


@pytest.mark.parametrize(
    "fault",
    [
        lambda w: 1 / 0,
        lambda w: None,
        lambda w: iter(()),
        lambda w: ["not a verdict"],
        lambda w: w.no_such_method(),
    ],
)
def test_a_check_that_raises_is_the_graders_problem(fault: object) -> None:
    result = evaluate(made(fault), world())
    assert result.state == "broken"
    assert result.problem


def test_a_limit_this_machine_cannot_hold_is_neither_passed_nor_failed() -> None:
    def needs_memory(w: World) -> Verdict:
        raise w.not_gradable("no memory controller")

    result = evaluate(made(needs_memory), world())
    assert (result.state, result.problem) == ("ungradable", "no memory controller")
    assert isinstance(world().not_gradable("x"), NotGradableHere)


def test_a_check_about_boxes_is_not_gradable_on_a_foreign_engine() -> None:
    assert evaluate(made(lambda w: expect(w.box("b"), expected=1, found=1)), world()).state == (
        "ungradable"
    )


def test_checks_are_loaded_in_the_order_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text(
        "from labkit.notebook.grading.checks import check, expect\n"
        "@check(title='second', points=2, hidden=True)\n"
        "def b(world): return expect(True, expected=1, found=1)\n"
        "@check(title='first', hint=['vague', 'plain'], cell='level-1')\n"
        "def a(world): return True\n"
        "def helper(world): return False\n"
    )
    found = load_checks(tmp_path)
    assert [(one.title, one.points, one.hidden, one.cell) for one in found] == [
        ("second", 2, True, "b"),
        ("first", 1, False, "level-1"),
    ]
    assert found[1].hints == ("vague", "plain")


@pytest.mark.parametrize("text", [None, "x = 1", "raise SystemError('no')", "def broken(:"])
def test_a_folder_without_usable_checks_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "checks.py").write_text(text)
    with pytest.raises(InvalidParameter, match="check"):
        load_checks(tmp_path)


def test_a_check_must_be_worth_something() -> None:
    with pytest.raises(InvalidParameter, match="more than zero"):
        check(title="nothing", points=0)


def test_a_report_shows_itself_as_text_html_and_data_without_hidden_checks() -> None:
    checks = [
        Check("a", lambda w: expect(False, expected="<b>", found="x", look="ps"), "open"),
        Check("b", lambda w: expect(False, expected="SECRET", found="x"), "covert", hidden=True),
    ]
    report = run_all("07", checks, world())
    shown = report.visible()._repr_mimebundle_()
    assert shown[MIME_TYPE]["max"] == 1
    assert "&lt;b&gt;" in shown["text/html"]
    assert "<b>open" in shown["text/html"]
    assert "expected   <b>" in shown["text/plain"]
    assert "SECRET" not in repr(shown)
    assert "covert" not in repr(shown)
    assert (report.score, report.max_score) == (0, 2)


def test_long_values_are_clipped_in_a_verdict() -> None:
    assert len(expect(False, expected="x" * 10_000, found="").expected) == 2000


def test_missing_carries_its_own_words() -> None:
    error = Missing("a volume", found="none", look="docker volume ls")
    assert str(error) == "expected a volume, found none"
