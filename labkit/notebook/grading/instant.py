"""`%check` and `%hint`: the checks of an exercise as instant feedback in the student's notebook.

Hidden checks are left out. The exercise is the one named, else LABKIT_EXERCISE, else the one
whose folder the notebook stands in.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labkit.base.errors import InvalidParameter
from labkit.base.paths import LabPaths
from labkit.notebook.grading.answers import answers_file, read_answers
from labkit.notebook.grading.checks import load_checks
from labkit.notebook.grading.report import Report, run_all
from labkit.notebook.grading.wire import Api, connect_address, connect_unix
from labkit.notebook.grading.world import World

__all__ = ["Hint", "check", "find_exercise", "hints_for", "local_world", "next_hint", "run_checks"]

_given: dict[tuple[str, str], int] = {}


@dataclass(frozen=True, slots=True)
class Hint:
    """One hint: the `number`-th of `of` for the check with this title."""

    check: str
    text: str
    number: int
    of: int

    def __repr__(self) -> str:
        return f"hint {self.number} of {self.of} for “{self.check}”: {self.text}"


def check(exercise: str | None = None, *, seed: int | None = None) -> Report:
    """Evaluate the visible checks of `exercise` against the lab that is running here.

    `seed` is the notebook's own parameter of that name unless given.
    While a submission is graded the checks are elsewhere, and the report is empty and says so.
    """
    if os.environ.get("LABKIT_GRADING"):
        return Report(exercise or os.environ.get("LABKIT_EXERCISE", ""), ())
    folder = find_exercise(exercise)
    return run_checks(folder, local_world(folder.name, seed=seed)).visible()


def _notebook_seed() -> int:
    """The variable `seed` of the notebook we are called from; 0 without one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    found = shell.user_ns.get("seed", 0) if shell is not None else 0
    return found if isinstance(found, int) else 0


def run_checks(folder: Path, world: World, *, hidden: bool = False) -> Report:
    """Evaluate the checks in `folder` against `world`; hidden ones only when asked for."""
    chosen = [one for one in load_checks(folder) if hidden or not one.hidden]
    return run_all(folder.name, chosen, world)


def local_world(exercise: str, *, seed: int | None = None) -> World:
    """The lab this process would talk to: DOCKER_HOST when set, else labkit's own sockets."""
    paths = LabPaths.from_environment()
    address = os.environ.get("DOCKER_HOST", "")
    own = not address or address == f"unix://{paths.docker_socket}"
    docker = Api(
        partial(connect_unix, paths.docker_socket) if own else partial(connect_address, address)
    )
    lab = Api(partial(connect_unix, paths.lab_socket)) if own else None
    answers = read_answers(answers_file(exercise))
    return World(docker, lab, answers=answers, seed=_notebook_seed() if seed is None else seed)


def find_exercise(exercise: str | None = None) -> Path:
    """The folder of an exercise, by its whole name, its number, or from where we stand."""
    wanted = exercise or os.environ.get("LABKIT_EXERCISE") or ""
    here = Path.cwd()
    if not wanted:
        if (here / "checks.py").is_file():
            return here
        raise InvalidParameter(
            "which exercise? This notebook does not stand in an exercise's folder",
            hint="name it, for example: %check 01",
        )
    if "/" in wanted and Path(wanted, "checks.py").is_file():
        return Path(wanted).resolve()
    known: list[str] = []
    for folder in _exercise_folders(here):
        known.append(folder.name)
        if folder.name == wanted or folder.name.partition("-")[0] == wanted.zfill(2):
            return folder
    raise InvalidParameter(
        f"no exercise {wanted!r}", hint=f"known here: {', '.join(known)}" if known else None
    )


def _exercise_folders(here: Path) -> list[Path]:
    roots = [here, *here.parents]
    found: dict[str, Path] = {}
    for root in roots:
        for parent in (root, root / "exercises"):
            if parent.is_dir() and parent.name == "exercises":
                for folder in sorted(parent.iterdir()):
                    if (folder / "checks.py").is_file():
                        found.setdefault(folder.name, folder)
    return list(found.values())


def hints_for(exercise: str | None = None) -> dict[str, tuple[str, ...]]:
    """The hints of every visible check that has any, by its title."""
    found = load_checks(find_exercise(exercise))
    return {one.title: one.hints for one in found if one.hints and not one.hidden}


def next_hint(exercise: str | None = None, check: str | None = None) -> Hint | None:
    """The next hint, one at a time, from vague to plain; None when there is none.

    Without `check` (a title or a part of it) it is for the first check that does not hold yet.
    After the last hint the last one is repeated.
    """
    if os.environ.get("LABKIT_GRADING"):
        return None
    folder = find_exercise(exercise)
    hints = hints_for(str(folder))
    title = next((name for name in hints if check and check.lower() in name.lower()), None)
    if check is None:
        report = run_checks(folder, local_world(folder.name)).visible()
        failing = [r.check.title for r in report.results if r.state != "passed"]
        title = next((name for name in failing if name in hints), None)
    if title is None:
        return None
    key = (str(folder), title)
    number = min(_given.get(key, 0) + 1, len(hints[title]))
    _given[key] = number
    return Hint(title, hints[title][number - 1], number, len(hints[title]))
