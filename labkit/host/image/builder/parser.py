"""Logical lines become instructions. What an instruction takes is one table, `_PARSERS`.

Sentences are Docker's (`dockerfile parse error on line 3: unknown instruction: RNU`); the hint
names the nearest instruction, or the forgotten `\\`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_duration_ns
from labkit.host.image.builder.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from labkit.host.image.builder.lexer import DockerfileError, LogicalLine, lex
from labkit.host.image.builder.lines import Line, json_words, split_words
from labkit.host.image.builder.parsecopy import parse_copy
from labkit.host.image.builder.runmount import parse_mount

__all__ = ["parse", "parse_trigger"]

_NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")
_TRIGGERS_REFUSED = frozenset({"ONBUILD", "FROM", "MAINTAINER"})
_MAX_STAGES = 256


def _command(line: Line, *, empty: bool = True) -> CommandLine:
    words = json_words(line.rest)
    if words is not None:
        return CommandLine(words, False)
    if not line.rest and not empty:
        raise line.fail(f"{line.word} requires at least one argument")
    return CommandLine((line.rest,) if line.rest else (), True)


def _single(line: Line) -> str:
    if not line.rest:
        raise line.fail(f"{line.word} requires exactly one argument")
    return line.rest


def _from(line: Line) -> Instruction:
    flags = line.take("platform")
    words = line.rest.split()
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _NAME.match(name):
            raise line.fail(
                f"invalid name for build stage: {json.dumps(words[2])}, name can't start with a "
                "number or contain symbols"
            )
        return From(line.number, line.source, words[0], name, flags.get("platform", ""))
    if len(words) != 1:
        raise line.fail("FROM requires either one or three arguments")
    return From(line.number, line.source, words[0], "", flags.get("platform", ""))


def _run(line: Line) -> Instruction:
    flags = line.take("network", "security", several=("mount",))
    network = flags.get("network", "")
    if network not in ("", "default", "none", "host"):
        raise line.fail(f"unsupported network mode {json.dumps(network)}")
    mounts = []
    for name, value in line.flags:
        if name == "mount":
            try:
                mounts.append(parse_mount(value))
            except InvalidParameter as error:
                raise line.fail(error.message, hint=error.hint) from None
    command = _command(line, empty=False)
    if not command.words or not any(command.words):
        raise line.fail("RUN requires at least one argument")
    heredocs = line.heredocs if command.is_shell else ()
    return Run(line.number, line.source, command, tuple(mounts), network, heredocs)


def _pairs(line: Line) -> tuple[tuple[str, str], ...]:
    """`K=V …`, or the old form `K the rest`."""
    words = split_words(line.rest, line.escape)
    if not words:
        raise line.fail(f"{line.word} requires at least one argument")
    if "=" not in words[0]:
        parts = line.rest.split(None, 1)
        if len(parts) < 2:
            raise line.fail(
                f"{line.word} must have two arguments", hint=f"write {line.word} {parts[0]}=value"
            )
        return ((parts[0], parts[1]),)
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise line.fail(
                f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: "
                "name=value"
            )
        if not name:
            raise line.fail(f"{line.word} names can not be blank")
        found.append((name, value))
    return tuple(found)


def _arg(line: Line) -> Instruction:
    words = split_words(line.rest, line.escape)
    if not words:
        raise line.fail("ARG requires at least one argument")
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise line.fail("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return Arg(line.number, line.source, tuple(pairs))


def _expose(line: Line) -> Instruction:
    words = line.rest.split()
    if not words:
        raise line.fail("EXPOSE requires at least one argument")
    return Expose(line.number, line.source, tuple(words))


def _volume(line: Line) -> Instruction:
    words = json_words(line.rest) or tuple(line.rest.split())
    if not words:
        raise line.fail("VOLUME requires at least one argument")
    if not all(words):
        raise line.fail("VOLUME specified can not be an empty string")
    return Volume(line.number, line.source, words)


def _shell(line: Line) -> Instruction:
    words = json_words(line.rest)
    if words is None:
        raise line.fail(f"SHELL requires the arguments to be in JSON form: {line.rest}")
    if not words:
        raise line.fail("SHELL requires at least one argument")
    return Shell(line.number, line.source, words)


def _onbuild(line: Line) -> Instruction:
    trigger = line.rest
    if not trigger:
        raise line.fail("ONBUILD requires at least one argument")
    word = trigger.split(None, 1)[0].upper()
    if word == "ONBUILD":
        raise line.fail("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in _TRIGGERS_REFUSED:
        raise line.fail(f"{word} isn't allowed as an ONBUILD trigger")
    for heredoc in line.heredocs:
        trigger += f"\n{heredoc.content}{heredoc.name}"
    parse_trigger(trigger, line.number, line.escape)
    return OnBuild(line.number, line.source, trigger)


def _healthcheck(line: Line) -> Instruction:
    names = ("interval", "timeout", "start-period", "start-interval", "retries")
    flags = line.take(*names)
    word, _, rest = line.rest.partition(" ")
    kind = word.upper()
    if kind == "NONE":
        if rest.strip() or flags:
            raise line.fail("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(line.number, line.source, ("NONE",))
    if kind != "CMD":
        if not word:
            raise line.fail("HEALTHCHECK requires at least one argument")
        raise line.fail(f"Unknown type {json.dumps(kind)} in HEALTHCHECK (try CMD)")
    words = json_words(rest.strip())
    if words is None and rest.strip():
        test: tuple[str, ...] = ("CMD-SHELL", rest.strip())
    elif words:
        test = ("CMD", *words)
    else:
        raise line.fail("Missing command after HEALTHCHECK CMD")
    interval, limit, start, between = (_duration(line, name, flags.get(name)) for name in names[:4])
    retries = flags.get("retries", "0")
    if not re.fullmatch(r"[0-9]{1,9}", retries):
        raise line.fail(f"--retries must be at least 1 (not {retries})")
    return Healthcheck(
        line.number, line.source, test, interval, limit, start, between, int(retries)
    )


def _duration(line: Line, name: str, text: str | None) -> int:
    if text is None:
        return 0
    try:
        found = parse_duration_ns(text)
    except InvalidParameter as error:
        raise line.fail(error.message) from None
    if 0 < found < 1_000_000 or found < 0:
        raise line.fail(f"Interval {json.dumps(name)} cannot be less than 1ms")
    return found


_PARSERS: Mapping[str, Callable[[Line], Instruction]] = {
    "ADD": parse_copy,
    "ARG": _arg,
    "CMD": lambda line: Cmd(line.number, line.source, _command(line)),
    "COPY": parse_copy,
    "ENTRYPOINT": lambda line: Entrypoint(line.number, line.source, _command(line)),
    "ENV": lambda line: Env(line.number, line.source, _pairs(line)),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda line: Label(line.number, line.source, _pairs(line)),
    "MAINTAINER": lambda line: Maintainer(line.number, line.source, _single(line)),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda line: StopSignal(line.number, line.source, _single(line)),
    "USER": lambda line: User(line.number, line.source, _single(line)),
    "VOLUME": _volume,
    "WORKDIR": lambda line: Workdir(line.number, line.source, _single(line)),
}
_WITH_FLAGS = frozenset({"ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"})


def _instruction(line: LogicalLine, escape: str, previous: LogicalLine | None) -> Instruction:
    word = re.split(r"\s", line.text, maxsplit=1)[0]
    parser = _PARSERS.get(word.upper())
    if parser is None:
        near = difflib.get_close_matches(word.upper(), _PARSERS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else None
        if previous is not None and previous.text.endswith(("&&", "||", "|", ";")):
            hint = (
                f"line {previous.end} ends with {previous.text.split()[-1][-2:]}: put a {escape} "
                "behind it to continue the command on the next line"
            )
        raise DockerfileError(line.number, f"unknown instruction: {word}", hint=hint)
    parsed = Line(line, escape)
    if parsed.word not in _WITH_FLAGS and parsed.flags:
        if parsed.word not in ("CMD", "ENTRYPOINT", "ENV", "LABEL", "ARG", "ONBUILD"):
            raise parsed.fail(f"unknown flag: --{parsed.flags[0][0]}")
        parsed.rest = line.text[len(word) :].strip()
    return parser(parsed)


def parse_trigger(text: str, line: int = 1, escape: str = "\\") -> Instruction:
    """The instruction that an ONBUILD keeps for the image's children. Raises DockerfileError."""
    lines = lex(text).lines
    if len(lines) != 1:
        raise DockerfileError(line, "onbuild trigger should be a single expression")
    try:
        return _instruction(lines[0], escape, None)
    except DockerfileError as error:
        raise DockerfileError(line, error.reason, hint=error.hint) from None


def parse(source: bytes | str) -> Dockerfile:
    """A Dockerfile's stages. Raises DockerfileError and nothing else."""
    lexed = lex(source)
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    warnings: list[str] = []
    previous: LogicalLine | None = None
    for line in lexed.lines:
        found = _instruction(line, lexed.escape, previous)
        previous = line
        if line.has_blank:
            warnings.append(f"Empty continuation line found in: {line.text}")
        warnings += _warnings(found)
        if isinstance(found, From):
            stages.append((found, []))
        elif stages:
            stages[-1][1].append(found)
        elif isinstance(found, Arg):
            arguments.append(found)
        else:
            raise DockerfileError(
                line.number,
                "no build stage in current context",
                hint="a Dockerfile starts with FROM",
            )
    if not stages:
        raise DockerfileError(1, "file with no instructions")
    if len(stages) > _MAX_STAGES:
        raise DockerfileError(stages[_MAX_STAGES][0].line, f"more than {_MAX_STAGES} stages")
    return Dockerfile(
        tuple(Stage(number, base, tuple(steps)) for number, (base, steps) in enumerate(stages)),
        tuple(arguments),
        lexed.escape,
        tuple(warnings),
    )


def _warnings(found: Instruction) -> list[str]:
    """What Docker accepts and hardly anybody means."""
    if isinstance(found, Volume):
        return [
            f"line {found.line}: VOLUME makes a volume called {path} (with the comma); "
            "paths are separated by blanks"
            for path in found.paths
            if path.endswith(",")
        ]
    return []
