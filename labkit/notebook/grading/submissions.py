"""Finding what students handed in: nbgrader's layout, a flat folder, or a Moodle zip.

Files are only ever read. What is found for one student is a list of candidates; the latest one
that belongs to the exercise, by its name or by its content, is the attempt that counts.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from labkit.base.errors import InvalidParameter
from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.notebookfile import (
    MAX_NOTEBOOK_BYTES,
    Notebook,
    parse_notebook,
    read_file,
)

__all__ = ["Submission", "find_submissions"]

_MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_\w*?_?\Z")
_MOODLE_FILE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_file_.+")
_DUPLICATES = r"[ _-]?\(\d+\)|[ _-]+(copy|kopie|copie)[ _-]?\d*|-checkpoint"
_DUPLICATE = re.compile(rf"({_DUPLICATES})\Z", re.IGNORECASE)
_COPY = re.compile(rf"({_DUPLICATES}|[ _-]?(v|attempt|versuch|final)[ _-]?\d*)\Z", re.IGNORECASE)
_LIKE_ENOUGH = 0.3
_MAX_FILES = 100_000


@dataclass(frozen=True)
class _Candidate:
    """One file of one student. `when` orders attempts: (modification time, name)."""

    student: str
    label: str
    when: tuple[float, str]
    in_exercise_folder: bool
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Submission:
    """The attempt of one student that counts.

    `data` are the file's bytes as handed in; `notebook` is None when they cannot be read, and
    `unreadable` then says why. `attempt` tells which of how many: `2 of 2 (name.ipynb)`.
    """

    student: str
    label: str
    attempt: str
    data: bytes = field(repr=False)
    notebook: Notebook | None = field(repr=False)
    unreadable: str = ""
    notes: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    """Other students whose code is the same, character for character."""


def find_submissions(source: Path, exercise: Exercise) -> list[Submission]:
    """What each student handed in for `exercise`, ordered by student.

    Raises InvalidParameter when `source` is neither a folder nor a zip file, or holds nothing.
    """
    students: dict[str, list[_Candidate]] = {}
    for candidate in _candidates(source, exercise):
        students.setdefault(candidate.student, []).append(candidate)
    if not students:
        raise InvalidParameter(
            f"no submission found in {source.name}",
            hint="expected STUDENT/EXERCISE/NAME.ipynb, NAME.ipynb files, or Moodle's zip",
        )
    chosen = [_choose(name, found, exercise) for name, found in sorted(students.items())]
    return _mark_twins([one for one in chosen if one is not None], exercise)


def _candidates(source: Path, exercise: Exercise) -> Iterator[_Candidate]:
    if source.is_dir():
        archives = sorted(source.glob("*.zip"))
        yield from _in_folder(source, exercise)
        for archive in archives:
            yield from _in_zip(archive, exercise)
    elif zipfile.is_zipfile(source):
        yield from _in_zip(source, exercise)
    elif source.exists():
        raise InvalidParameter(f"{source.name} is neither a folder nor a zip file")
    else:
        raise InvalidParameter(f"there is no {source} with submissions")


def _in_folder(source: Path, exercise: Exercise) -> Iterator[_Candidate]:
    for count, path in enumerate(sorted(source.rglob("*"))):
        if count > _MAX_FILES:
            raise InvalidParameter(f"{source.name} holds more than {_MAX_FILES} files")
        parts = path.relative_to(source).parts
        if not _is_notebook_name(parts) or path.is_dir():
            continue
        try:
            modified = path.lstat().st_mtime
        except OSError:
            continue  # removed while we looked
        yield _candidate(parts, modified, lambda path=path: read_file(path), exercise)  # type: ignore[misc]


def _in_zip(path: Path, exercise: Exercise) -> Iterator[_Candidate]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidParameter(f"cannot read {path.name}: {error}") from error
    for entry in entries[:_MAX_FILES]:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.is_dir() or not _is_notebook_name(parts):
            continue
        try:
            when = datetime(*entry.date_time).timestamp()  # noqa: DTZ001 - zip has local time only
        except ValueError:
            when = 0.0
        yield _candidate(parts, when, lambda e=entry: _read_entry(path, e), exercise)  # type: ignore[misc]


def _read_entry(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """One file of an archive. Its declared size is not believed: reading stops at the limit."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            data = file.read(MAX_NOTEBOOK_BYTES + 1)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise InvalidParameter(f"cannot unpack {entry.filename}: {error}") from error
    if len(data) > MAX_NOTEBOOK_BYTES:
        raise InvalidParameter(f"{entry.filename} is larger than {MAX_NOTEBOOK_BYTES >> 20} MiB")
    return data


def _is_notebook_name(parts: tuple[str, ...]) -> bool:
    return (
        bool(parts)
        and parts[-1].lower().endswith(".ipynb")
        and not any(part.startswith((".", "__MACOSX")) or part == ".." for part in parts)
    )


def _candidate(
    parts: tuple[str, ...], modified: float, read: Callable[[], bytes], exercise: Exercise
) -> _Candidate:
    folders, name = parts[:-1], parts[-1]
    moodle = next((m for part in folders if (m := _MOODLE.match(part))), None)
    if moodle is not None:
        student = f"{moodle['name']}_{moodle['id']}"
    elif (
        flat := _MOODLE.match(name.split("_file_")[0] + "_file_")
    ) and "_assignsubmission_" in name:
        student = f"{flat['name']}_{flat['id']}"
    elif folders:
        # EXERCISE/NAME.ipynb (a flat folder named after the exercise) is not a student's folder.
        student = folders[0] if folders[0] != exercise.name else _student_from_name(name, exercise)
    else:
        student = _student_from_name(name, exercise)
    return _Candidate(
        student, "/".join(parts), (modified, "/".join(parts)), exercise.name in folders, read
    )


def _student_from_name(name: str, exercise: Exercise) -> str:
    stem = whole = name[: -len(".ipynb")]
    for known in (exercise.name, exercise.name.partition("-")[2]):
        if known and known in stem and stem != known:
            stem = stem.replace(known, "")
    # Words like "final" are the file's only where the exercise is named too; else who can tell?
    marks = _COPY if stem != whole else _DUPLICATE
    return marks.sub("", stem).strip(" _-.") or whole


@dataclass(frozen=True)
class _Read:
    """A candidate whose file has been read; `notebook` is None when `problem` says why."""

    source: _Candidate
    data: bytes
    notebook: Notebook | None
    problem: str

    @property
    def file(self) -> str:
        return self.source.label.rpartition("/")[2]


def _read(one: _Candidate) -> _Read:
    data = b""
    try:
        data = one.read()
        return _Read(one, data, parse_notebook(data), "")
    except InvalidParameter as error:
        return _Read(one, data, None, error.message)


def _choose(student: str, found: list[_Candidate], exercise: Exercise) -> Submission | None:
    """The latest attempt; None when everything plainly belongs to other exercises."""
    mine: list[_Read] = []
    strangers: list[_Read] = []
    for candidate in sorted(found, key=lambda one: one.when):
        one = _read(candidate)
        belongs = _is_named_so(one.source, exercise)
        if one.notebook is not None:
            alike = exercise.likeness(one.notebook) >= _LIKE_ENOUGH
            # A right name is believed unless every graded cell is another exercise's.
            belongs = alike or (belongs and not any(c.grade_id for c in one.notebook.cells))
        (mine if belongs else strangers).append(one)
    if mine:
        # An unreadable file after a good one is more likely an upload gone wrong than an answer.
        chosen = ([one for one in mine if one.notebook is not None] or mine)[-1]
        attempt = f"{mine.index(chosen) + 1} of {len(mine)} ({chosen.file})"
        return Submission(
            student,
            chosen.source.label,
            attempt,
            chosen.data,
            chosen.notebook,
            chosen.problem,
            _notes(chosen, mine, exercise),
        )
    meant = [
        one
        for one in strangers
        if one.source.in_exercise_folder
        or _is_named_so(one.source, exercise)
        or len(strangers) == 1
    ]
    if not meant:
        return None
    chosen = meant[-1]
    reason = chosen.problem or (
        f"this notebook does not belong to {exercise.name}: it shares too few of its cells"
    )
    return Submission(
        student, chosen.source.label, f"1 of 1 ({chosen.file})", chosen.data, None, reason
    )


def _notes(chosen: _Read, mine: list[_Read], exercise: Exercise) -> tuple[str, ...]:
    notes = []
    if not _is_named_so(chosen.source, exercise):
        notes.append(f"recognised by its content: the file is called {chosen.file}")
    notes += [
        f"{other.file} cannot be read ({other.problem}) and was left aside"
        for other in mine
        if other is not chosen and other.notebook is None
    ]
    return tuple(notes)


def _is_named_so(one: _Candidate, exercise: Exercise) -> bool:
    name = one.label.rpartition("/")[2]
    subject = exercise.name.partition("-")[2] or exercise.name
    return exercise.name in name or (one.in_exercise_folder and subject in name)


def _mark_twins(found: list[Submission], exercise: Exercise) -> list[Submission]:
    """Note which students handed in the very same code (blank ones aside)."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        if one.notebook is not None and not exercise.is_blank(one.notebook):
            groups.setdefault(_code_of(one.notebook), []).append(one.student)
    return [
        one
        if one.notebook is None
        else replace(
            one,
            twins=tuple(n for n in groups.get(_code_of(one.notebook), []) if n != one.student),
        )
        for one in found
    ]


def _code_of(notebook: Notebook) -> tuple[str, ...]:
    return tuple(cell.normal for cell in notebook.code if cell.does_something)
