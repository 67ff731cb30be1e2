"""The outcome of all checks of an exercise, as data and as something to look at."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labkit.notebook.grading.checks import Check, CheckResult, evaluate
from labkit.notebook.grading.world import World

__all__ = ["MIME_TYPE", "Report", "format_points", "run_all"]

MIME_TYPE = "application/vnd.labkit.check+json"

_LATER = "checked from outside, after the notebook has ended"
_MARKS = {"passed": "✔", "partial": "◐", "failed": "✘", "broken": "!", "ungradable": "–"}
_WORDS = {
    "passed": "holds",
    "partial": "holds in part",
    "failed": "does not hold yet",
    "broken": "could not be decided: the check itself failed, which is not your fault",
    "ungradable": "cannot be checked on this machine",
}


def format_points(value: float) -> str:
    """Points without a needless fraction: 2, 1.5, 0.33."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Report:
    """Results in the order of checks.py. Displays itself; `repr` is the text twin."""

    exercise: str
    results: tuple[CheckResult, ...]

    @property
    def score(self) -> float:
        return round(sum(result.score for result in self.results), 6)

    @property
    def max_score(self) -> float:
        return round(sum(result.check.points for result in self.results), 6)

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(result.state == "passed" for result in self.results)

    @property
    def undecided(self) -> tuple[CheckResult, ...]:
        """Checks that say nothing about the student: broken, or not possible here."""
        return tuple(result for result in self.results if result.state in ("broken", "ungradable"))

    def visible(self) -> Report:
        """The same without hidden checks."""
        return Report(self.exercise, tuple(r for r in self.results if not r.check.hidden))

    def to_json(self) -> dict[str, Any]:
        """Plain data for a report file or an output of type application/vnd.labkit.check+json."""
        return {
            "exercise": self.exercise,
            "score": self.score,
            "max": self.max_score,
            "checks": [_result_json(result) for result in self.results],
        }

    def __repr__(self) -> str:
        if not self.results:
            return f"{self.exercise}: {_LATER}"
        lines = [f"{self.exercise}: {format_points(self.score)} of {format_points(self.max_score)}"]
        for result in self.results:
            lines.append(
                f"{_MARKS[result.state]} {result.check.title} "
                f"({format_points(result.score)} of {format_points(result.check.points)}): "
                f"{_WORDS[result.state]}"
            )
            for loss in result.losses:
                lines += [f"    expected   {loss.expected}", f"    found      {loss.found}"]
                if loss.look:
                    lines.append(f"    look with  {loss.look}")
            if result.problem:
                lines.append(f"    because    {result.problem}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.results:
            return f"<div>{html.escape(self.exercise)}: {_LATER}</div>"
        rows = "".join(_result_html(result) for result in self.results)
        head = (
            f"<b>{html.escape(self.exercise)}</b>: {format_points(self.score)} "
            f"of {format_points(self.max_score)}"
        )
        return (
            f'<div class="labkit-check" role="region" aria-label="check results">{head}'
            f'<ul style="list-style:none;padding-left:0.5em;margin:0.4em 0">{rows}</ul></div>'
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            MIME_TYPE: self.to_json(),
            "text/html": self._repr_html_(),
            "text/plain": repr(self),
        }


def run_all(exercise: str, checks: Iterable[Check], world: World) -> Report:
    """Evaluate every check against `world`."""
    return Report(exercise, tuple(evaluate(one, world) for one in checks))


def _result_json(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.check.name,
        "title": result.check.title,
        "state": result.state,
        "score": result.score,
        "max": result.check.points,
        "losses": [
            {"expected": loss.expected, "found": loss.found, "look": loss.look}
            for loss in result.losses
        ],
        "problem": result.problem,
    }


def _result_html(result: CheckResult) -> str:
    head = (
        f"<li>{_MARKS[result.state]} <b>{html.escape(result.check.title)}</b> "
        f"({format_points(result.score)} of {format_points(result.check.points)}): "
        f"{_WORDS[result.state]}"
    )
    parts = [head]
    for loss in result.losses:
        cells = [("expected", loss.expected), ("found", loss.found), ("look with", loss.look)]
        rows = "".join(
            f'<tr><th style="text-align:left;padding-right:1em">{name}</th>'
            f'<td style="text-align:left"><code>{html.escape(text)}</code></td></tr>'
            for name, text in cells
            if text
        )
        parts.append(f"<table>{rows}</table>")
    if result.problem:
        parts.append(f"<div>{html.escape(result.problem)}</div>")
    return "".join(parts) + "</li>"
