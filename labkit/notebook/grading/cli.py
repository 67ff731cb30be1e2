"""`labkit grade EXERCISE --submissions DIR --out DIR`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import FrameType

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.base.paths import LabPaths
from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.gradebook import Gradebook
from labkit.notebook.grading.lab import LabFactory, refuse_without_namespaces
from labkit.notebook.grading.launcher import Zygote
from labkit.notebook.grading.result import Result, ResultStore, fingerprint
from labkit.notebook.grading.runner import Cancelled, Grader
from labkit.notebook.grading.selfcheck import check_itself
from labkit.notebook.grading.submissions import Submission, find_submissions

__all__ = ["main"]

_INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Grade and return the exit code: 0 done, 2 cannot start, 130 interrupted."""
    options = _parser().parse_args(list(argv))
    try:
        return _grade(options)
    except LabkitError as error:
        print(f"labkit grade: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labkit grade",
        description="Run each submission in a lab of its own and check the state it leaves.",
    )
    parser.add_argument("exercise", type=Path, help="folder with NAME.ipynb and checks.py")
    parser.add_argument(
        "--submissions",
        type=Path,
        required=True,
        metavar="DIR",
        help="STUDENT/EXERCISE/NAME.ipynb, a flat folder of notebooks, or Moodle's zip",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where grades go")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep results of an earlier run whose files have not changed (default)",
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds for one notebook")
    parser.add_argument("--seed", type=int, help="instead of the exercise's own seed")
    parser.add_argument(
        "--force", action="store_true", help="grade although the self-check found problems"
    )
    return parser


def _grade(options: argparse.Namespace) -> int:
    refuse_without_namespaces()
    exercise = Exercise.load(options.exercise)
    submissions_at, out = options.submissions.resolve(), options.out.resolve()
    if out == submissions_at or out.is_relative_to(submissions_at):
        raise InvalidParameter(
            "the results cannot be written among the submissions",
            hint="give --out a folder of its own",
        )
    if options.jobs < 1:
        raise InvalidParameter("--jobs must be at least 1")
    submissions = find_submissions(submissions_at, exercise)
    out.mkdir(parents=True, exist_ok=True)
    (out / "notebooks").mkdir(exist_ok=True)
    limits = exercise.limits
    if options.timeout:
        limits = replace(
            limits, total_s=options.timeout, cell_s=min(limits.cell_s, options.timeout)
        )
    cancel = threading.Event()
    images = LabPaths.from_environment().home / "grading" / "images"
    with _signals(cancel), Zygote(labs=True) as zygote:
        factory = LabFactory(zygote, images=images)
        try:
            grader = Grader(
                exercise=exercise,
                factory=factory,
                limits=limits,
                seed=options.seed,
                private=(submissions_at, out, exercise.folder, Path.home()),
                cancelled=cancel.is_set,
            )
            if not _self_check(grader, options, len(submissions)):
                return 2
            return _Run(replace(grader, executed=out / "notebooks"), out, options, cancel).run(
                submissions
            )
        except Cancelled:
            print("interrupted before any submission was graded", file=sys.stderr)
            return _INTERRUPTED
        finally:
            factory.close()


def _self_check(grader: Grader, options: argparse.Namespace, count: int) -> bool:
    """Whether grading may begin; prints what was found."""
    line = _Line()
    found = check_itself(grader, jobs=options.jobs, count=count, say=line.show)
    line.clear()
    for text in found.lines:
        print(f"✔ {text}")
    for text in found.problems:
        print(f"✘ {text}", file=sys.stderr)
    if found.unmet:
        grader.unmet_needs = found.unmet
        return True
    if found.problems and not options.force:
        print("nothing was graded; --force grades nevertheless", file=sys.stderr)
        return False
    return True


class _signals:  # noqa: N801 - reads as a statement: with _signals(cancel)
    """Ctrl-C and SIGTERM set the event; a second Ctrl-C is an ordinary KeyboardInterrupt."""

    def __init__(self, cancel: threading.Event) -> None:
        self._cancel = cancel
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _note(self, _: int, __: FrameType | None) -> None:
        if self._cancel.is_set():
            raise KeyboardInterrupt
        self._cancel.set()


class _Line:
    """The one live line; on something that is not a terminal, a few plain ones."""

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()
        self._last = ""

    def show(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        if self.is_live:
            sys.stderr.write(f"\r\x1b[2K{text}")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.is_live and self._last:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        self._last = ""


class _Run:
    """All submissions of one call."""

    def __init__(
        self, grader: Grader, out: Path, options: argparse.Namespace, cancel: threading.Event
    ) -> None:
        self._grader = grader
        self._options = options
        self._cancel = cancel
        self._store = ResultStore(out)
        self._book = Gradebook(out, grader.exercise.title)
        self._results: dict[str, Result] = {}
        self._line = _Line()
        self._out = out

    def run(self, submissions: Sequence[Submission]) -> int:
        todo = [one for one in submissions if not self._is_finished(one)]
        kept = len(submissions) - len(todo)
        if kept:
            print(f"{kept} of {len(submissions)} are graded already and have not changed")
        start = time.monotonic()
        with ThreadPoolExecutor(self._options.jobs, "grader") as pool:
            pending = {pool.submit(self._grader.grade, one) for one in todo}
            self._show(len(submissions), len(pending), start, kept)
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                if self._cancel.is_set():
                    for future in pending:
                        future.cancel()
                for future in done:
                    self._take(future)
                self._show(len(submissions), len(pending), start, kept)
        self._line.clear()
        self._book.write_tables(self._results.values())
        return self._summary(len(submissions), time.monotonic() - start)

    def _is_finished(self, one: Submission) -> bool:
        if not self._options.resume:
            return False
        mark = fingerprint(one, self._grader.exercise, self._grader.seed)
        found = self._store.load(one.student, mark)
        if found is None or (found.status == "not-gradable-here"):
            return False  # another machine, or this one repaired, may be able to
        self._results[one.student] = found
        return True

    def _take(self, future: Future[Result]) -> None:
        if future.cancelled():
            return
        try:
            result = future.result()
        except Cancelled:
            return
        self._results[result.student] = result
        self._store.save(result)
        self._book.write_report(result)
        self._book.write_tables(self._results.values())

    def _show(self, total: int, pending: int, start: float, kept: int) -> None:
        done = len(self._results)
        review = sum(bool(one.review) for one in self._results.values())
        fresh = done - kept
        text = f"{done} of {total} graded"
        if review:
            text += f", {review} to look at"
        if pending and fresh > 0 and self._line.is_live:
            text += f", about {(time.monotonic() - start) / fresh * pending:.0f} s left"
        self._line.show(text)

    def _summary(self, total: int, seconds: float) -> int:
        counts: dict[str, int] = {}
        for one in self._results.values():
            counts[one.status] = counts.get(one.status, 0) + 1
        words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        print(f"{len(self._results)} of {total} graded in {seconds:.1f} s: {words or 'nothing'}")
        review = sum(bool(one.review) for one in self._results.values())
        if review:
            print(f"{review} to look at: {self._out / 'needs-review.csv'}")
        print(f"grades: {self._out / 'grades.csv'}")
        if self._cancel.is_set():
            print("interrupted; the same command continues where it stopped", file=sys.stderr)
            return _INTERRUPTED
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
