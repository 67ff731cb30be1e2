"""Which stages a build needs, and in what order their steps are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labkit.base.errors import InvalidParameter
from labkit.host.image.builder.instructions import Copy, Dockerfile, Label, OnBuild, Run, Stage
from labkit.host.image.builder.lexer import DockerfileError
from labkit.host.image.builder.parser import parse_trigger

__all__ = ["Plan", "find_stage", "make_plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to build, in the file's order; the last one is the result.

    `first_step[n]` is the number under which stage n's FROM is told.
    """

    stages: tuple[Stage, ...]
    first_step: Mapping[int, int]
    steps: int
    skipped: tuple[Stage, ...] = ()

    @property
    def target(self) -> Stage:
        return self.stages[-1]


def find_stage(stages: tuple[Stage, ...], name: str, *, before: int) -> Stage | None:
    """The stage that `name` (or a number) means for stage `before`; the last of a name wins."""
    for stage in reversed(stages[:before]):
        if stage.base.name and stage.base.name == name.lower():
            return stage
    if name.isdecimal() and int(name) < before:
        return stages[int(name)]
    return None


def _target(dockerfile: Dockerfile, name: str) -> Stage:
    if not name:
        return dockerfile.stages[-1]
    found = find_stage(dockerfile.stages, name, before=len(dockerfile.stages))
    if found is None:
        names = ", ".join(stage.name for stage in dockerfile.stages)
        raise InvalidParameter(
            f'target stage "{name}" could not be found', hint=f"the stages are {names}"
        )
    return found


def make_plan(
    dockerfile: Dockerfile,
    target: str,
    labels: Mapping[str, str],
    base_name: Callable[[Stage], str],
) -> Plan:
    """`base_name` expands a stage's FROM. Raises InvalidParameter when there is no such target."""
    goal = _target(dockerfile, target)
    stages = dockerfile.stages
    needed: set[int] = set()
    pending = [goal]
    while pending:
        stage = pending.pop()
        if stage.number in needed:
            continue
        needed.add(stage.number)
        names = [base_name(stage), *_origins(stage)]
        found = (find_stage(stages, name, before=stage.number) for name in names)
        pending += [other for other in found if other is not None]
    if labels:
        extra = tuple(
            Label(goal.base.line, f"LABEL {name}={labels[name]}", ((name, _literal(labels[name])),))
            for name in sorted(labels)
        )
        goal = Stage(goal.number, goal.base, (*goal.steps, *extra))
    kept = tuple(goal if stage.number == goal.number else stage for stage in stages)
    kept = tuple(stage for stage in kept if stage.number in needed)
    number, first = len(dockerfile.arguments) + 1, {}
    for stage in kept:
        first[stage.number] = number
        number += 1 + len(stage.steps)
    skipped = tuple(stage for stage in stages[: goal.number] if stage.number not in needed)
    return Plan(kept, first, number - 1, skipped)


def _literal(text: str) -> str:
    """A value from the command line: nothing in it is a variable."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _origins(stage: Stage) -> list[str]:
    """The stages or images whose files a stage takes."""
    found = []
    for step in stage.steps:
        if isinstance(step, OnBuild):
            try:
                step = parse_trigger(step.trigger, step.line)
            except DockerfileError:
                continue
        if isinstance(step, Copy) and step.flags.origin:
            found.append(step.flags.origin)
        elif isinstance(step, Run):
            found += [mount.origin for mount in step.mounts if mount.origin]
    return found
