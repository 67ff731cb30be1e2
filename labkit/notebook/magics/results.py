"""What a magic hands to Python when its result is assigned: rows of a table, or lines of output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.tables import table_html

__all__ = ["Lines", "Row", "Rows"]

_IDENTITY = ("ID", "Id", "CONTAINER ID", "IMAGE ID", "Name", "Names", "NAME", "NAMES")


class Row(dict[str, Any]):
    """One row. Keys are the template fields (`Names`, `Status`) and the column titles.

    As text it is the object's id or name, so that `%docker rm {rows}` means what it says.
    """

    def __str__(self) -> str:
        for key in _IDENTITY:
            if self.get(key):
                return str(self[key])
        return dict.__repr__(self)


class Rows(list[Row]):
    """The rows of a listing; shows itself as the table it was."""

    def __init__(self, table: Table) -> None:
        records: Iterable[Mapping[str, Any]] = table.records or [{} for _ in table.rows]
        super().__init__(
            Row({**dict(zip(table.columns, cells, strict=False)), **record})
            for cells, record in zip(table.rows, records, strict=False)
        )
        self.table = table

    @property
    def text(self) -> str:
        """Exactly what Docker's client prints."""
        return self.table.text

    def __repr__(self) -> str:
        return self.table.text.rstrip("\n")

    def _repr_html_(self) -> str:
        return table_html(self.table)


class Lines(list[str]):
    """Lines of output without their newlines; `text` is all of it, `exit_code` how it ended."""

    def __init__(self, text: str, *, stderr: str = "", exit_code: int = 0) -> None:
        super().__init__(text.splitlines())
        self.text = text
        self.stderr = stderr
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.text.rstrip("\n")

    def __repr__(self) -> str:
        return self.text.rstrip("\n")
