"""Reading a command line and laying out a listing, for the cluster's commands."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, NoReturn

from labkit.base.errors import CommandError, InvalidParameter
from labkit.notebook.commands.surface import Surface, Table

__all__ = ["Parser", "listing", "parse"]


class Parser(ArgumentParser):
    """Complains with an exception instead of ending the process, which may be a kernel."""

    def format_help(self) -> str:
        """Begins as Docker's help does."""
        text = super().format_help()
        return f"Usage:  {text.removeprefix('usage: ')}"

    def error(self, message: str) -> NoReturn:
        """Raises InvalidParameter."""
        raise InvalidParameter(message, hint=f"{self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raises CommandError: help was printed, or something went wrong."""
        raise CommandError(message or "", status)


def parse(parser: Parser, words: Sequence[str], surface: Surface) -> Any:
    """The options; None when only help was wanted, which has been printed then."""
    parts = list(words)
    if any(word in ("-h", "--help") for word in parts):
        chosen = parser
        for action in parser._actions:
            found = getattr(action, "choices", None)
            if isinstance(found, dict):
                chosen = next((found[word] for word in parts if word in found), parser)
        surface.out(chosen.format_help())
        return None
    return parser.parse_args(parts)


def listing(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], records: list[dict[str, Any]]
) -> Table:
    """Columns three blanks apart, as Docker's client lays them out."""
    widths = [max(len(line[place]) for line in [columns, *rows]) for place in range(len(columns))]
    text = "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in [columns, *rows]
    )
    return Table(columns, list(rows), text, records)
