"""Before anybody is graded the grader checks itself, with the exercise's own notebooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.base.errors import LabkitError, SystemFailure
from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.lab import LabFactory
from labkit.notebook.grading.notebookfile import read_notebook
from labkit.notebook.grading.report import format_points
from labkit.notebook.grading.runner import Grader

__all__ = ["SelfCheck", "check_itself", "prepare_images"]

_LIMIT_NEEDS = frozenset({"memory", "pids", "cpu", "blkio", "cpuset", "freezer"})
_PULL_S = 300.0


@dataclass
class SelfCheck:
    """What was found. `unmet` are needs this machine cannot meet; `seconds` one run's time."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unmet: tuple[str, ...] = ()
    seconds: float = 0.0


def unmet_needs(exercise: Exercise, factory: LabFactory) -> tuple[str, ...]:
    """The exercise's needs that no submission on this machine could have."""
    limits = [need for need in exercise.needs if need in _LIMIT_NEEDS]
    return tuple(need for need in limits if need not in factory.controllers)


def prepare_images(
    exercise: Exercise, factory: LabFactory, say: Callable[[str], None]
) -> list[str]:
    """Put the exercise's images into the shared store; sentences about what is not possible.

    The store is written by a lab of ours only, and that lab's daemon has ended cleanly before
    any submission reads it.
    """
    if not exercise.images:
        return []
    lab = factory.open(exercise, prepare_images=True)
    try:
        lab.wait_ready()
        present = {tag for one in lab.world().images() for tag in one.get("RepoTags") or []}
        wanted = [name if ":" in name else f"{name}:latest" for name in exercise.images]
        for name in wanted:
            if name in present:
                continue
            say(f"preparing the image {name}")
            if problem := lab.pull(name, deadline_s=_PULL_S):
                return [f"the image {name} is not available: {problem}"]
        lab.shut_down()
    except LabkitError as error:
        return [f"the images could not be prepared: {error.message}"]
    finally:
        lab.close()
    return []


def check_itself(grader: Grader, *, jobs: int, count: int, say: Callable[[str], None]) -> SelfCheck:
    """Run the reference solution (must reach 100 %) and the untouched exercise (must get 0 %)."""
    exercise, found = grader.exercise, SelfCheck()
    factory = grader.factory
    ids = f"ids from {factory.id_base}" if factory.id_base is not None else "one id, this user's"
    limits = ", ".join(sorted(factory.controllers & _LIMIT_NEEDS)) or "none enforced by the kernel"
    found.lines.append(f"sandbox: a user namespace with {ids}; limits: {limits}")
    found.unmet = unmet_needs(exercise, factory)
    if found.unmet:
        missing = ", ".join(found.unmet)
        found.problems.append(
            f"this machine cannot enforce {missing}, which {exercise.name} is about: "
            "its submissions are not gradable here"
        )
        return found
    found.problems += prepare_images(exercise, factory, say)
    if found.problems:
        return found
    found.lines.append(f"images: {', '.join(exercise.images) or 'none needed'}")
    grader.warm_up()  # not part of what one submission costs
    say("running the reference solution")
    _reference(grader, found)
    say("running the untouched exercise")
    _untouched(grader, found)
    total = found.seconds * count / max(jobs, 1)
    found.lines.append(
        f"estimated time: {found.seconds:.1f} s each, {count} submissions, {jobs} at a time: "
        f"about {_duration(total)}"
    )
    return found


def _reference(grader: Grader, found: SelfCheck) -> None:
    if not grader.exercise.solution_path.is_file():
        found.problems.append(
            f"{grader.exercise.name} has no solution.ipynb to check the checks with"
        )
        return
    start = time.monotonic()
    result = grader.run_notebook(read_notebook(grader.exercise.solution_path))
    found.seconds = time.monotonic() - start
    _need_report(result.report, result.reason)
    score, best = format_points(result.score or 0), format_points(result.max)
    if result.status == "ok":
        found.lines.append(f"reference solution: {score} of {best}")
        return
    found.problems.append(
        f"the reference solution reaches only {score} of {best} ({result.status}: {result.reason})"
    )
    found.problems += [f"  cell {one['cell']}: {one['error']}" for one in result.troubles]
    for entry in (result.report or {}).get("checks", []):
        for loss in entry["losses"]:
            found.problems.append(
                f"  {entry['title']}: expected {loss['expected']}, found {loss['found']}"
            )


def _untouched(grader: Grader, found: SelfCheck) -> None:
    result = grader.run_notebook(grader.exercise.notebook)
    _need_report(result.report, result.reason)
    score, best = format_points(result.score or 0), format_points(result.max)
    if result.score == 0:
        found.lines.append(f"untouched exercise: 0 of {best}")
        return
    gifts = [
        entry["title"] for entry in (result.report or {}).get("checks", []) if entry["score"] > 0
    ]
    why = "; ".join(gifts) or result.reason
    found.problems.append(f"the untouched exercise already gets {score} of {best}: {why}")


def _need_report(report: object, reason: str) -> None:
    if report is None:
        raise SystemFailure(f"the grader could not run the exercise's own notebook: {reason}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
