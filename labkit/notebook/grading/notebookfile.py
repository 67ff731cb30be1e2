"""Reading .ipynb files with plain JSON, defensively: they come from students.

nbformat costs most of a second to import and is not needed to look at cells.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter

__all__ = ["MAX_NOTEBOOK_BYTES", "Cell", "Notebook", "parse_notebook", "read_file", "read_notebook"]

MAX_NOTEBOOK_BYTES = 64 << 20
_COMMENT_OR_BLANK = re.compile(r"\s*(#.*)?\Z")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. `grade_id` and `solution` come from nbgrader's metadata."""

    kind: str
    source: str
    grade_id: str = ""
    solution: bool = False
    tags: tuple[str, ...] = ()

    @property
    def normal(self) -> str:
        """The source without trailing blanks, for comparing."""
        return "\n".join(line.rstrip() for line in self.source.strip().splitlines())

    @property
    def is_code(self) -> bool:
        return self.kind == "code"

    @property
    def does_something(self) -> bool:
        """Whether a code cell holds more than blank lines and comments."""
        return self.is_code and any(
            not _COMMENT_OR_BLANK.match(line) for line in self.source.splitlines()
        )


@dataclass(frozen=True, slots=True)
class Notebook:
    """A notebook's cells and its whole document."""

    cells: tuple[Cell, ...]
    document: dict[str, Any]

    @property
    def code(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.is_code)

    def by_grade_id(self, grade_id: str) -> Cell | None:
        return next((cell for cell in self.cells if cell.grade_id == grade_id), None)


def read_file(path: Path, *, limit: int = MAX_NOTEBOOK_BYTES) -> bytes:
    """The bytes of a regular file, opened read-only and without following a final link.

    Raises InvalidParameter with a reason a grader can act on.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise InvalidParameter(f"cannot read {path.name}: {reason}") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidParameter(f"cannot read {path.name}: it is not a regular file")
        if found.st_size > limit:
            raise InvalidParameter(f"cannot read {path.name}: it is larger than {limit >> 20} MiB")
        return file.read(limit)


def read_notebook(path: Path) -> Notebook:
    """Read and parse the notebook at `path`; InvalidParameter says what is wrong with it."""
    return parse_notebook(read_file(path))


def parse_notebook(data: bytes) -> Notebook:
    """A notebook from the bytes of its file (format 4, or 3 with its worksheets)."""
    if not data.strip():
        raise InvalidParameter("the file is empty")
    try:
        document = json.loads(data)
    except RecursionError:
        raise InvalidParameter("the file is nested too deeply to be a notebook") from None
    except UnicodeDecodeError:
        raise InvalidParameter("the file is not text, so it cannot be a notebook") from None
    except ValueError as error:
        raise InvalidParameter(f"the file is not a notebook: not JSON ({error})") from None
    if not isinstance(document, dict):
        raise InvalidParameter("the file is not a notebook: JSON without an object at its top")
    raw = document.get("cells")
    if raw is None and isinstance(sheets := document.get("worksheets"), list):
        raw = [
            cell for sheet in sheets if isinstance(sheet, dict) for cell in sheet.get("cells", [])
        ]
    if not isinstance(raw, list):
        raise InvalidParameter("the file is not a notebook: it has no list of cells")
    return Notebook(tuple(_cell(one) for one in raw if isinstance(one, dict)), document)


def _cell(raw: dict[str, Any]) -> Cell:
    source = raw.get("source", raw.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    graded = metadata.get("nbgrader")
    graded = graded if isinstance(graded, dict) else {}
    tags = metadata.get("tags")
    return Cell(
        kind=str(raw.get("cell_type", "")),
        source=source if isinstance(source, str) else "",
        grade_id=str(graded.get("grade_id", "")),
        solution=bool(graded.get("solution", False)),
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
    )
