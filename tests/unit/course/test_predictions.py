"""Predictions are kept, compared, and never required."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.notebook.course.predictions import outcome, predict
from labkit.notebook.grading.answers import answers_file, read_answers, record


@pytest.fixture(autouse=True)
def _own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ANSWERS", str(tmp_path / "answers.json"))


def test_without_a_prediction_the_outcome_stands_alone() -> None:
    assert "No prediction was made" in outcome("k", "yes").text


@pytest.mark.parametrize(
    ("happened", "words"), [("yes", "as you predicted"), ("no", "not what you predicted")]
)
def test_the_outcome_is_shown_beside_the_prediction(happened: str, words: str) -> None:
    record("predicted:k", "yes")
    assert words in outcome("k", happened).text


def test_what_happened_is_escaped() -> None:
    assert "<script>" not in outcome("k", "<script>")._repr_html_()


def test_a_choice_in_the_browser_is_stored() -> None:
    question = predict("k", "Which?", "a", "b")
    question._repr_mimebundle_()
    question._widget.chosen = "b"
    assert read_answers(answers_file())["predicted:k"] == "b"
    assert predict("k", "Which?", "a", "b")._stored() == "b"


def test_an_answer_that_is_no_choice_any_more_is_forgotten() -> None:
    record("predicted:k", "c")
    assert predict("k", "Which?", "a", "b")._stored() == ""


def test_without_a_browser_the_question_is_text() -> None:
    assert repr(predict("k", "Which?", "a", "b")).endswith("Which?\n  ( ) a\n  ( ) b")
