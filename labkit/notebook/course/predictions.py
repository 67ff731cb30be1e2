"""Predict, run, compare: what a student expects is stored, and shown beside what happened."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from labkit.notebook.grading.answers import answers_file, read_answers, record

__all__ = ["Outcome", "Question", "outcome", "predict"]

_PREFIX = "predicted:"


class Question:
    """One question with its choices. Displays itself; without a browser, as text."""

    def __init__(self, key: str, question: str, choices: Sequence[str]) -> None:
        self.key = key
        self.question = question
        self.choices = tuple(choices)
        self._widget: Any = None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": self.text()}
        widget = self._live()
        if widget is not None:
            bundle.update(widget)
        return bundle

    def _live(self) -> dict[str, Any] | None:
        from labkit.notebook.widgets.prediction import PredictionWidget

        if self._widget is None:
            self._widget = PredictionWidget(
                question=self.question, choices=list(self.choices), chosen=self._stored()
            )
            self._widget.observe(self._keep, names="chosen")
        found = self._widget._repr_mimebundle_()
        data = found[0] if isinstance(found, tuple) else found
        if not data:
            return None
        return {kind: value for kind, value in data.items() if kind != "text/plain"}

    def _stored(self) -> str:
        found = read_answers(answers_file()).get(_PREFIX + self.key)
        return found if found in self.choices else ""

    def _keep(self, change: Any) -> None:
        record(_PREFIX + self.key, change["new"])

    def text(self) -> str:
        """The question for a terminal, a screen reader or a run without a browser."""
        lines = [f"Before you run the next cell: {self.question}"]
        lines += [f"  ( ) {choice}" for choice in self.choices]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()


class Outcome:
    """What was expected beside what happened."""

    def __init__(self, expected: str | None, happened: str) -> None:
        self.expected = expected
        self.happened = happened

    @property
    def text(self) -> str:
        if self.expected is None:
            return f"It happened: {self.happened}. (No prediction was made.)"
        word = "as you predicted" if self.expected == self.happened else "not what you predicted"
        return f"You predicted: {self.expected}. It happened: {self.happened} — {word}."

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        right = self.expected == self.happened
        colour = "#0072b2" if self.expected is None else "#009e73" if right else "#d55e00"
        mark = "" if self.expected is None else "✓ " if right else "≠ "
        return (
            f'<div style="border-left:4px solid {colour};padding:.4em 1em;margin:.3em 0">'
            f"<strong>{mark}</strong>{html.escape(self.text)}</div>"
        )


def predict(key: str, question: str, *choices: str) -> Question:
    """Ask before an experiment. The answer is stored under `key`; nothing depends on giving one."""
    return Question(key, question, choices)


def outcome(key: str, happened: str) -> Outcome:
    """Show what happened beside what was predicted under `key`."""
    found = read_answers(answers_file()).get(_PREFIX + key)
    return Outcome(found if isinstance(found, str) and found else None, happened)
