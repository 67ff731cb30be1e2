"""One student's report as a page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from html import escape
from typing import Any

from labkit.notebook.grading.report import format_points

__all__ = ["render"]

_STYLE = """
:root { color-scheme: light dark; --line: #8888; --good: #00694d; --bad: #a63c00; }
@media (prefers-color-scheme: dark) { :root { --good: #5fd3ae; --bad: #ff9f66; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin-bottom: 0; }
.score { font-size: 2rem; margin: 0.3rem 0; }
section { border-top: 1px solid var(--line); padding: 0.6rem 0; }
h2 { font-size: 1rem; margin: 0; }
.passed h2::before { content: "✔ "; color: var(--good); }
.failed h2::before { content: "✘ "; color: var(--bad); }
.partial h2::before { content: "◐ "; color: var(--bad); }
.broken h2::before, .ungradable h2::before { content: "– "; }
table { margin: 0.5rem 0 1rem; border-spacing: 0 0.15rem; }
th { text-align: left; vertical-align: top; white-space: nowrap; }
th { font-weight: normal; padding-right: 1rem; opacity: .75; }
pre { overflow-x: auto; border-left: 3px solid var(--line); padding-left: 0.8rem; }
code, pre { font: 0.9rem/1.4 ui-monospace, monospace; white-space: pre-wrap; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STATES = {
    "passed": "holds",
    "partial": "holds in part",
    "failed": "does not hold",
    "broken": "could not be decided; that is not your fault",
    "ungradable": "could not be checked on the grading machine",
}
_STATUSES = {
    "ok": "Everything that was checked holds.",
    "partial": "Some checks do not hold yet.",
    "blank": "Nothing was written in this notebook.",
    "timeout": "The notebook was stopped because it ran too long.",
    "killed": "The notebook ended before it was done.",
    "forbidden": "A person will look at this submission.",
    "unreadable": "The file could not be read as a notebook. A person will look at it.",
    "not-gradable-here": "A person will look at this submission.",
}


def render(view: dict[str, Any]) -> str:
    """The page for `view` (gradebook.student_view). Every text in it is escaped."""
    score = view["score"]
    shown = "–" if score is None else format_points(score)
    who = f"{escape(view['student'])} · {escape(view['exercise'])}"
    # Losses are told check by check; a reason adds something only where the run itself failed.
    reason = "" if view["status"] in ("ok", "partial", "blank") else view["reason"]
    why = f"{escape(_STATUSES.get(view['status'], ''))} {escape(reason)}".strip()
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(view['title'])}: {escape(view['student'])}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(view['title'])}</h1>",
        f"<div>{who} · attempt {escape(view['attempt'])}</div>",
        f'<p class="score">{shown} of {format_points(view["max"])}</p>',
        f"<p><b>{escape(view['status'])}</b>: {why}</p>",
    ]
    parts += [_check(one) for one in view["checks"]]
    if view["cells"]:
        parts.append("<section><h2>Cells that did not run to their end</h2>")
        parts += [
            f"<p>cell {int(one['cell'])}</p><pre>{escape(one['error'])}</pre>"
            for one in view["cells"]
        ]
        parts.append("</section>")
    if view["notes"]:
        notes = "".join(f"<li>{escape(note)}</li>" for note in view["notes"])
        parts.append(f"<section><h2>Notes</h2><ul>{notes}</ul></section>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _check(one: dict[str, Any]) -> str:
    state = one["state"] if one["state"] in _STATES else "broken"
    points = f"{format_points(one['score'])} of {format_points(one['max'])}"
    parts = [
        f'<section class="{state}"><h2>{escape(one["title"])}</h2>',
        f"<div>{points} · {_STATES[state]}</div>",
    ]
    for loss in one["losses"]:
        rows = [
            ("expected", loss["expected"]),
            ("found", loss["found"]),
            ("look with", loss["look"]),
        ]
        parts.append(
            "<table>"
            + "".join(
                f"<tr><th>{name}</th><td><code>{escape(text)}</code></td></tr>"
                for name, text in rows
                if text
            )
            + "</table>"
        )
    if one.get("cell"):
        parts.append(f"<p>Your cell:</p><pre>{escape(one['cell'])}</pre>")
    parts.append("</section>")
    return "".join(parts)
