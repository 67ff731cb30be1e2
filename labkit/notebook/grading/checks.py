"""What a check is: one graded statement about the world, written beside its exercise.

    @check(title="the web server runs", points=2, hint="docker ps -a shows stopped ones too")
    def web_runs(world):
        web = world.container("web")
        return expect(web.running, expected="running", found=web.state, look="docker ps -a")

A check returns one Verdict, or yields several, which share its points by their weights. Asking
the world for something the student has not made fails the check with the words of `Missing`;
any other exception is a fault of the check, reported to the grader and never charged to the
student. Checks run outside the student's kernel.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from labkit.base.errors import InvalidParameter, LabkitError, NotFound, Unavailable

if TYPE_CHECKING:
    from labkit.notebook.grading.world import World

__all__ = [
    "Check",
    "CheckResult",
    "Missing",
    "NotGradableHere",
    "Verdict",
    "check",
    "evaluate",
    "expect",
    "load_checks",
]

State = Literal["passed", "partial", "failed", "broken", "ungradable"]
_MARK = "__labkit_check__"
_MAX_TEXT = 2000


class Missing(NotFound):
    """Something the check asked for is not there: the student's loss, in words.

    `expected`, `found` and `look` become the verdict.
    """

    def __init__(
        self, expected: str, *, found: str = "nothing of that name", look: str = ""
    ) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found
        self.look = look


class NotGradableHere(LabkitError):
    """This machine cannot hold what the check is about (no memory controller, for example)."""

    http_status = 501


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison: what was expected, what was found, and where the student can look."""

    passed: bool
    expected: str
    found: str
    look: str = ""
    weight: float = 1.0


def expect(
    condition: object, *, expected: object, found: object, look: str = "", weight: float = 1.0
) -> Verdict:
    """A verdict that holds when `condition` is true.

    `expected` and `found` are shown to the student as text, `look` is a command or a place that
    shows the same thing; `weight` is this verdict's share of the check's points.
    """
    if weight <= 0:
        raise InvalidParameter("a verdict's weight must be positive")
    return Verdict(bool(condition), _clip(expected), _clip(found), look, weight)


def _clip(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


CheckFunction = Callable[["World"], "Verdict | Iterable[Verdict] | bool"]
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Check:
    """One function of a checks.py with what it is worth.

    `points` is its share of the exercise; `hint` (one, or several from vague to plain) helps a
    student who fails it; `hidden` checks count but are never shown; `cell` is the grade_id of the
    solution cell it judges, which reports quote (default: the function's name).
    """

    name: str
    function: CheckFunction
    title: str
    points: float = 1.0
    hints: tuple[str, ...] = ()
    hidden: bool = False
    cell: str = ""


@dataclass(slots=True)
class CheckResult:
    """How one check came out. `problem` is the grader's, never the student's."""

    check: Check
    state: State
    score: float
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""
    losses: tuple[Verdict, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.losses = tuple(verdict for verdict in self.verdicts if not verdict.passed)


def check(
    *,
    title: str,
    points: float = 1.0,
    hint: str | Sequence[str] = (),
    hidden: bool = False,
    cell: str = "",
) -> Callable[[_F], _F]:
    """Mark a function of a checks.py as a check (see `Check` for the meaning of each word)."""
    if points <= 0:
        raise InvalidParameter(f"the check {title!r} must be worth more than zero points")
    hints = (hint,) if isinstance(hint, str) else tuple(hint)

    def mark(function: _F) -> _F:
        name = function.__name__
        made = Check(name, function, title, float(points), hints, hidden, cell or name)
        setattr(function, _MARK, made)
        return function

    return mark


def load_checks(folder: Path) -> tuple[Check, ...]:
    """The checks of `folder`/checks.py, in the order they are written.

    Raises InvalidParameter when the file is missing, cannot be run or holds no check.
    """
    path = folder / "checks.py"
    if not path.is_file():
        raise InvalidParameter(
            f"{folder.name} has no checks.py",
            hint="an exercise keeps its checks beside its notebook",
        )
    module = _load_module(path)
    found = [
        made
        for value in vars(module).values()
        if isinstance(made := getattr(value, _MARK, None), Check)
        and getattr(value, "__module__", None) == module.__name__
    ]
    if not found:
        raise InvalidParameter(
            f"{folder.name}/checks.py defines no check", hint="mark one with @check"
        )
    return tuple(found)


def _load_module(path: Path) -> ModuleType:
    name = f"labkit_checks_{path.parent.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and postponed annotations look their module up by name while it runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidParameter(
            f"cannot read the checks of {path.parent.name}: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.modules.pop(name, None)
    return module


def evaluate(one: Check, world: World) -> CheckResult:
    """Run one check against `world`; never raises."""
    verdicts: list[Verdict] = []
    try:
        outcome = one.function(world)
        if isinstance(outcome, bool):
            outcome = Verdict(outcome, one.title, "it does not hold" if not outcome else "it holds")
        if isinstance(outcome, Verdict):
            verdicts.append(outcome)
        elif outcome is None:
            raise TypeError("the check returned nothing; return or yield expect(…)")
        else:
            for verdict in outcome:
                if not isinstance(verdict, Verdict):
                    raise TypeError(f"the check yielded {type(verdict).__name__}, not a Verdict")
                verdicts.append(verdict)
        if not verdicts:
            raise TypeError("the check yielded no verdict")
    except Missing as error:
        verdicts.append(Verdict(False, error.expected, error.found, error.look))
    except NotGradableHere as error:
        return CheckResult(one, "ungradable", 0.0, tuple(verdicts), error.message)
    except Unavailable as error:
        # A lab that no longer answers says nothing about what the student did.
        return CheckResult(one, "broken", 0.0, tuple(verdicts), error.message)
    except Exception as error:  # noqa: BLE001 - a check is foreign code; its fault is reported, not hidden
        return CheckResult(one, "broken", 0.0, tuple(verdicts), _problem(error))
    return _scored(one, tuple(verdicts))


def _scored(one: Check, verdicts: tuple[Verdict, ...]) -> CheckResult:
    total = sum(verdict.weight for verdict in verdicts)
    share = sum(verdict.weight for verdict in verdicts if verdict.passed) / total
    state: State = "passed" if share == 1 else "failed" if share == 0 else "partial"
    return CheckResult(one, state, round(one.points * share, 6), verdicts)


def _problem(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(frames) if f.filename.endswith("checks.py")), None)
    where = f" (checks.py, line {place.lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"
