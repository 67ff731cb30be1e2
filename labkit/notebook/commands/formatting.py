"""Tables and templates as Docker's client prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.gotemplate import (
    Template,
    TemplateError,
    TemplateSyntaxError,
    go_json,
    parse,
    render,
)
from labkit.notebook.commands.surface import Table

if TYPE_CHECKING:
    from labkit.notebook.commands.surface import Surface

__all__ = [
    "View",
    "check_fields",
    "check_format",
    "ellipsis",
    "escape_markup",
    "expand_escapes",
    "filters_of",
    "format_text",
    "listing",
    "show",
    "tabulate",
]

_MIN_WIDTH = 10
_PADDING = 3


def tabulate(text: str, *, min_width: int = _MIN_WIDTH, padding: int = _PADDING) -> str:
    """Go's text/tabwriter: a cell is what a tab ends; neighbouring lines that have a cell in the
    same column share its width. The last cell of a line ends no column and is not padded."""
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[0] * (len(cells) - 1) for cells in lines]
    for column in range(max((len(row) for row in widths), default=0)):
        start = 0
        while start < len(lines):
            if len(widths[start]) <= column:
                start += 1
                continue
            end = start
            while end < len(lines) and len(widths[end]) > column:
                end += 1
            width = max(len(lines[row][column]) for row in range(start, end))
            for row in range(start, end):
                widths[row][column] = max(min_width, width + padding)
            start = end
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(cells, row, strict=False)) + cells[-1]
        for cells, row in zip(lines, widths, strict=True)
    )


def ellipsis(text: str, width: int) -> str:
    """`text`, shortened to `width` characters with `…` where it is longer."""
    if width <= 0:
        return ""
    return text if len(text) <= width else text[: width - 1] + "…"


@dataclass(frozen=True, slots=True)
class View:
    """One kind of listing: the fields that templates know with their headings, and what is
    printed where no template is given. `type_name` is what Go calls a row; with `quiet_wins`
    `--quiet` overrides any template."""

    type_name: str
    headings: Mapping[str, str]
    table: str
    quiet: str = "{{.ID}}"
    raw: str = ""
    raw_quiet: str = ""
    quiet_wins: bool = False


def expand_escapes(template: str) -> str:
    """`\\t` and `\\n` typed as two characters in a shell."""
    return template.replace("\\t", "\t").replace("\\n", "\n")


def check_format(template: str, problem: str = "template parsing error") -> Template:
    """Read a template; raises CommandError beginning with `problem`."""
    try:
        return parse(template)
    except TemplateSyntaxError as error:
        raise CommandError(f"{problem}: {error}") from None


def check_fields(view: View, template: str, problem: str) -> None:
    """Refuse a template that names a field no row has, before anything is asked of the engine."""
    if template in ("", "table", "json", "raw", "pretty"):
        return
    parsed = check_format(format_text(view, template)[0], problem)
    probe: dict[str, Any] = {**dict.fromkeys(view.headings, ""), "Label": lambda _: ""}
    try:
        render(parsed, probe, type_name=view.type_name)
    except TemplateError as error:
        if "can't evaluate field" in str(error):
            raise CommandError(f"failed to execute template: {error}") from None


class _Heading(dict[str, Any]):
    """The first line of a table: every field is its heading; functions leave text alone."""


def escape_markup(text: str) -> str:
    """JSON as Go's Marshal writes it, safe inside HTML."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _heading_of_label(name: str) -> str:
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


_HEADING_FUNCTIONS: dict[str, Any] = {
    name: (lambda text, *_: text)
    for name in ("json", "title", "lower", "upper", "truncate", "split", "join", "pad")
}


def format_text(view: View, template: str) -> tuple[str, bool]:
    """The template meant by the text of --format, and whether it makes a table with headings."""
    if template in ("", "table"):
        return view.table, True
    if template == "json":
        return "{{json .}}", False
    if template == "raw" and view.raw:
        return view.raw, False
    if template.startswith("table"):
        return expand_escapes(template[len("table") :].strip(" ")), True
    return expand_escapes(template.strip(" ")), False


def listing(
    view: View, rows: Sequence[Mapping[str, Any]], template: str = "", *, quiet: bool = False
) -> Table:
    """All rows through `template` (what `--format` was given; "" for the default table)."""
    if quiet and (template in ("", "table") or (view.quiet_wins and template != "raw")):
        text, is_table = view.quiet, False
    elif quiet and template == "raw" and view.raw_quiet:
        text, is_table = view.raw_quiet, False
    else:
        text, is_table = format_text(view, template)
    parsed = check_format(text)
    lines = [_line(parsed, view, row) for row in rows]
    columns: tuple[str, ...] = ()
    cells: list[tuple[str, ...]] = []
    if is_table:
        heading = _Heading(view.headings, Label=_heading_of_label)
        first = _evaluate(parsed, heading, "", functions=_HEADING_FUNCTIONS)
        columns = tuple(first.split("\t"))
        cells = [tuple(line.split("\t")) for line in lines]
        output = tabulate("\n".join([first, *lines, ""]))
    else:
        output = "".join(f"{line}\n" for line in lines)
    return Table(columns, cells, output, [_plain(row) for row in rows])


def show(
    surface: Surface,
    view: View,
    rows: Sequence[Mapping[str, Any]],
    template: str = "",
    *,
    quiet: bool = False,
) -> None:
    """Print a listing; a table with headings goes to the surface as a table."""
    table = listing(view, rows, template, quiet=quiet)
    if table.columns:
        surface.table(table)
    else:
        surface.out(table.text)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in sorted(row) if not callable(row[name])}


def _line(parsed: Template, view: View, row: Mapping[str, Any]) -> str:
    def to_json(value: Any) -> str:
        if value is not row:
            return go_json(value)
        # A whole row goes through Go's Marshal, which escapes what HTML would take for markup.
        return escape_markup(go_json(_plain(row)))

    return _evaluate(parsed, row, view.type_name, functions={"json": to_json})


def _evaluate(
    parsed: Template, data: Any, type_name: str, functions: Mapping[str, Any] | None = None
) -> str:
    try:
        return render(parsed, data, type_name=type_name, functions=functions)
    except TemplateError as error:
        raise CommandError(f"template parsing error: {error}") from None


def filters_of(values: Sequence[str]) -> dict[str, dict[str, bool]] | None:
    """`--filter name=value` as the API's JSON; None where there is none."""
    filters: dict[str, dict[str, bool]] = {}
    for value in values:
        name, equals, content = value.partition("=")
        if equals:
            filters.setdefault(name, {})[content] = True
    return filters or None
