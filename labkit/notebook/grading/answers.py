"""What a student writes down on purpose: answers to questions and predictions.

They live in one JSON file that the notebook writes and the checks read from outside:
`LABKIT_ANSWERS` when set (grading sets it), otherwise answers/EXERCISE.json under LABKIT_HOME,
where EXERCISE is LABKIT_EXERCISE or the exercise in whose folder the notebook stands.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.paths import LabPaths

__all__ = ["answers_file", "parse_answers", "read_answers", "record"]

MAX_BYTES = 1 << 20


def answers_file(exercise: str = "") -> Path:
    """Where the answers of `exercise` (default: the one we stand in) are kept."""
    named = os.environ.get("LABKIT_ANSWERS")
    if named:
        return Path(named)
    name = exercise or os.environ.get("LABKIT_EXERCISE", "") or _standing_in() or "notebook"
    return LabPaths.from_environment().home / "answers" / f"{Path(name).name}.json"


def _standing_in() -> str:
    """The exercise whose folder this notebook runs in, as `%check` finds it; empty for none."""
    here = Path.cwd()
    return here.name if (here / "checks.py").is_file() else ""


def record(key: str, value: Any, *, exercise: str = "") -> None:
    """Keep one answer; a later one under the same key replaces it.

    Raises InvalidParameter for a value that JSON cannot carry.
    """
    path = answers_file(exercise)
    kept = read_answers(path)
    kept[key] = value
    try:
        text = json.dumps(kept, indent=1)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(
            f"cannot record the answer {key!r}: {error}", hint="use numbers, text, lists or dicts"
        ) from error
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A half-written file would lose every earlier answer.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".answers")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(name, path)


def read_answers(path: Path) -> dict[str, Any]:
    """The recorded answers; empty when nothing usable is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return {}
        return parse_answers(file.read(MAX_BYTES + 1))


def parse_answers(data: bytes) -> dict[str, Any]:
    """Answers from the bytes of an answers file; empty when they are not a JSON object."""
    if len(data) > MAX_BYTES:
        return {}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
