"""What a student predicted or answered, kept beside the lab's state.

One JSON object in LABKIT_HOME/course/answers.json, replaced whole so that a crash loses nothing.
Grading reads the file from outside the student's kernel and trusts nothing in it.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.paths import LabPaths

__all__ = ["ANSWERS_BYTES_MAX", "load", "store"]

ANSWERS_BYTES_MAX = 1 << 20


def _file(paths: LabPaths | None) -> str:
    return str((paths or LabPaths.from_environment()).home / "course" / "answers.json")


def load(paths: LabPaths | None = None) -> dict[str, Any]:
    """All answers so far; a missing or damaged file counts as none."""
    try:
        with open(_file(paths), encoding="utf-8") as lines:
            found = json.loads(lines.read(ANSWERS_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def store(key: str, value: Any, paths: LabPaths | None = None) -> None:
    """Keep `value` (anything JSON can hold) under `key`.

    Raises InvalidParameter when the value is no JSON or all answers together exceed 1 MiB.
    """
    answers = load(paths)
    answers[str(key)] = value
    try:
        text = json.dumps(answers, sort_keys=True, indent=1)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(
            f"cannot store the answer '{key}': {error}",
            hint="answer with a number, a text, True or False, a list or a dict of those",
        ) from error
    if len(text) > ANSWERS_BYTES_MAX:
        raise InvalidParameter(f"cannot store the answer '{key}': all answers exceed 1 MiB")
    name = _file(paths)
    folder = os.path.dirname(name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".answers-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(temporary, name)
    except BaseException:
        os.unlink(temporary)
        raise
