"""Docker's listings as HTML; the text twin stays what Docker's client prints."""

from __future__ import annotations

from html import escape

from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.style import OKABE_ITO, with_style

__all__ = ["table_html"]

_MONOSPACE = {"CONTAINER ID", "IMAGE ID", "ID", "COMMAND", "CREATED BY", "DIGEST", "CMD", "PID"}
_MAX_ROWS = 500


def table_html(table: Table) -> str:
    """The table as HTML. Rows beyond 500 are left to the text twin, and the table says so."""
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in table.columns)
    body = "".join(
        "<tr>" + "".join(map(_cell, table.columns, row)) + "</tr>" for row in table.rows[:_MAX_ROWS]
    )
    html = (
        "<div class='lk-scroll'><table class='lk-table'>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    if len(table.rows) > _MAX_ROWS:
        html += f"<span class='lk-note'>and {len(table.rows) - _MAX_ROWS} more rows</span>"
    return with_style(html)


def _cell(title: str, text: str) -> str:
    if title == "STATUS":
        return f"<td>{_dot(text)}{escape(text)}</td>"
    style = " class='lk-mono'" if title in _MONOSPACE else ""
    return f"<td{style}>{escape(text)}</td>"


def _dot(status: str) -> str:
    """A mark before a status: filled while something runs, hollow when not."""
    if status.startswith("Up"):
        colour, filled = ("orange", False) if "(Paused)" in status else ("green", True)
    elif status.startswith("Restarting"):
        colour, filled = "orange", True
    elif status.startswith("Exited"):
        return _mark("#888888" if status.startswith("Exited (0)") else OKABE_ITO["vermillion"])
    else:
        colour, filled = "blue", False
    return _mark(OKABE_ITO[colour], filled=filled)


def _mark(colour: str, *, filled: bool = False) -> str:
    inside = colour if filled else "transparent"
    style = f"border-color:{colour};background:{inside}"
    return f"<i class='lk-dot' aria-hidden='true' style='{style}'></i>"
