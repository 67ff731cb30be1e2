"""An exercise folder: NN-subject.ipynb, checks.py, solution.ipynb and, when wished, exercise.toml.

exercise.toml:

    title = "What is a container?"
    minutes = 30                 # for a student
    images = ["busybox"]         # must be present before a submission runs
    needs = ["memory", "pids"]   # what the machine must offer, or the exercise is not gradable
    lab = true                   # whether submissions get a lab (false: only answers are checked)
    [limits]                     # of one submission while it is graded
    cell_s = 60
    total_s = 300
    memory = "1g"
    pids = 512
    disk = "256m"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes
from labkit.notebook.grading.checks import Check, load_checks
from labkit.notebook.grading.notebookfile import Notebook, read_notebook

__all__ = ["Exercise", "Limits"]

_OWN_FILES = frozenset({"checks.py", "solution.ipynb", "exercise.toml", "README.md"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one submission may use while it is graded.

    `cell_s` seconds for one cell, `total_s` for the notebook; `memory_bytes` for the notebook
    and its lab together; `pids` processes in each of the two; `disk_bytes` for the notebook's
    own files; `output_bytes` of one cell's output are kept, the rest is counted and dropped.
    """

    cell_s: float = 60.0
    total_s: float = 300.0
    memory_bytes: int = 1 << 30
    pids: int = 512
    disk_bytes: int = 256 << 20
    output_bytes: int = 256 << 10

    @classmethod
    def from_table(cls, table: Mapping[str, Any], name: str) -> Limits:
        """Read [limits]; InvalidParameter names a key that is not known."""
        readers: dict[str, tuple[str, Any]] = {
            "cell_s": ("cell_s", float),
            "total_s": ("total_s", float),
            "memory": ("memory_bytes", lambda v: parse_bytes(str(v))),
            "pids": ("pids", int),
            "disk": ("disk_bytes", lambda v: parse_bytes(str(v))),
            "output": ("output_bytes", lambda v: parse_bytes(str(v))),
        }
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in readers:
                raise InvalidParameter(
                    f"{name}: unknown limit {key!r}", hint=f"known: {', '.join(readers)}"
                )
            field_name, read = readers[key]
            try:
                values[field_name] = read(value)
            except (TypeError, ValueError) as error:
                raise InvalidParameter(f"{name}: the limit {key} cannot be {value!r}") from error
        return cls(**values)


@dataclass(frozen=True)
class Exercise:
    """An exercise as its author wrote it. `name` is the folder's."""

    folder: Path
    name: str
    title: str
    minutes: int
    images: tuple[str, ...]
    needs: tuple[str, ...]
    lab: bool
    limits: Limits
    checks: tuple[Check, ...] = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Exercise:
        """Read the folder; InvalidParameter says what is missing or wrong in it."""
        folder = folder.resolve()
        if not folder.is_dir():
            raise InvalidParameter(
                f"there is no exercise folder {folder.name}",
                hint="give the folder that holds NAME.ipynb and checks.py",
            )
        table: dict[str, Any] = {}
        settings = folder / "exercise.toml"
        if settings.is_file():
            try:
                table = tomllib.loads(settings.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise InvalidParameter(f"{folder.name}/exercise.toml: {error}") from error
        if not (folder / f"{folder.name}.ipynb").is_file():
            raise InvalidParameter(
                f"{folder.name} has no notebook of its own name",
                hint=f"the exercise is expected in {folder.name}/{folder.name}.ipynb",
            )
        return cls(
            folder=folder,
            name=folder.name,
            title=str(table.get("title", folder.name)),
            minutes=int(table.get("minutes", 30)),
            images=tuple(map(str, table.get("images", ()))),
            needs=tuple(map(str, table.get("needs", ()))),
            lab=bool(table.get("lab", True)),
            limits=Limits.from_table(table.get("limits", {}), f"{folder.name}/exercise.toml"),
            checks=load_checks(folder),
        )

    @property
    def notebook_path(self) -> Path:
        return self.folder / f"{self.name}.ipynb"

    @property
    def solution_path(self) -> Path:
        return self.folder / "solution.ipynb"

    @property
    def max_score(self) -> float:
        return round(sum(one.points for one in self.checks), 6)

    @cached_property
    def notebook(self) -> Notebook:
        return read_notebook(self.notebook_path)

    @property
    def files(self) -> tuple[Path, ...]:
        """What stands beside the notebook for students to use: data, Dockerfiles, folders."""
        return tuple(
            path
            for path in sorted(self.folder.iterdir())
            if path.name not in _OWN_FILES
            and path.suffix != ".ipynb"
            and not path.name.startswith((".", "__"))
        )

    def is_blank(self, submitted: Notebook) -> bool:
        """Whether the student wrote no code of their own."""
        given = {cell.normal for cell in self.notebook.code}
        return not any(
            cell.does_something and cell.normal not in given and "parameters" not in cell.tags
            for cell in submitted.code
        )

    def likeness(self, submitted: Notebook) -> float:
        """From 0 to 1: the share of this exercise's own cells that `submitted` still has.

        Solution cells are told by their grade_id, the others also by what they say.
        """
        ids = {cell.grade_id for cell in submitted.cells if cell.grade_id}
        texts = {cell.normal for cell in submitted.cells if cell.normal}
        mine = [cell for cell in self.notebook.cells if cell.grade_id or len(cell.normal) > 20]
        if not mine:
            return 0.0
        return sum(cell.grade_id in ids or cell.normal in texts for cell in mine) / len(mine)
