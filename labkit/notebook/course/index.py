"""The table of contents: which chapters this checkout holds, read from their files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Chapter", "chapters"]

_NAME = re.compile(r"(\d\d)-([a-z0-9-]+)\.ipynb\Z")


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter: its number as two digits, its title, its question, and its file."""

    number: str
    title: str
    question: str
    notebook: Path
    exercise: Path | None


def chapters(course: Path) -> list[Chapter]:
    """Every chapter notebook below `course`, in order. Broken files are left out."""
    found = []
    for path in sorted((course / "notebooks").glob("*.ipynb")):
        match = _NAME.match(path.name)
        if match is None:
            continue
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            source = "".join(cells[0]["source"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
        lines = [line.strip() for line in source.splitlines() if line.strip()]
        title = lines[0].lstrip("# ") if lines else path.stem
        question = next((line.strip("*_ ") for line in lines[1:]), "")
        folder = course / "exercises" / path.stem
        found.append(
            Chapter(match.group(1), title, question, path, folder if folder.is_dir() else None)
        )
    return found
