"""Flags as Docker's client understands them (Go's pflag), read from tables of text.

A table has one flag per line: `-s, --name kind | sentence`. No kind means a switch. A sentence
goes on in the following line when that begins with the bar. `!` before the dashes hides a flag.
What a flag is when it is not given is what its sentence ends with, `(default …)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes, parse_cpus, parse_duration_ns
from labkit.notebook.commands.gotext import go_quote, parse_bool, parse_int, parse_uint

__all__ = ["Flag", "FlagError", "FlagHelp", "Flags", "Validators", "flag_usages", "parse_flags"]

Validators = Mapping[str, Callable[[str], Any]]

_LINE = re.compile(r"(!)?\s*(?:-(\w), )?--([\w-]+)(?: ([\w-]+))?\s*\Z")
_DEFAULT = re.compile(r" \(default ([^()]*|\[\]|map\[\])\)\Z")


class FlagError(Exception):
    """A flag that cannot be understood; the text is pflag's."""


class FlagHelp(Exception):
    """`--help` was asked for; `deprecated` when spelt -h."""

    def __init__(self, *, deprecated: bool) -> None:
        super().__init__("help requested")
        self.deprecated = deprecated


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: `kind` decides how its text is read and whether it may be given repeatedly."""

    long: str
    short: str
    kind: str
    help: str
    hidden: bool = False

    @property
    def is_switch(self) -> bool:
        return self.kind == "bool"

    @property
    def repeats(self) -> bool:
        return self.kind in _REPEATED

    @property
    def default(self) -> Any:
        """The value when the flag is not given."""
        if self.repeats:
            return []
        match = _DEFAULT.search(self.help)
        shown = match.group(1) if match else ""
        if self.kind == "bool":
            return shown == "true"
        if self.kind in _NUMBERS:
            return int(shown) if re.fullmatch(r"-?\d+", shown) else 0
        if self.kind in ("bytes", "duration", "decimal"):
            return 0
        return shown[1:-1] if shown.startswith('"') else ""

    @property
    def spelt(self) -> str:
        """How error messages name it."""
        return f"-{self.short}, --{self.long}" if self.short else f"--{self.long}"


_REPEATED = frozenset(
    {
        *("list", "map", "strings", "filter", "mount", "network", "ulimit", "gpu-request"),
        "stringToString",
    }
)
_NUMBERS = frozenset({"int", "uint", "uint16", "uint64", "int64"})


def read_table(text: str) -> list[Flag]:
    """Flags from a table in the notation above."""
    rows: list[list[str]] = []
    for line in text.strip("\n").splitlines():
        head, _, sentence = line.partition("|")
        if head.strip():
            rows.append([head, sentence.removeprefix(" ")])
        else:
            rows[-1][1] += "\n" + sentence.removeprefix(" ")
    flags = []
    for head, sentence in rows:
        match = _LINE.match(head)
        assert match is not None, f"bad line in a table of flags: {head!r}"
        hidden, short, long, kind = match.groups()
        flags.append(Flag(long, short or "", kind or "bool", sentence, bool(hidden)))
    return flags


@dataclass(slots=True)
class Flags:
    """Values by long name; `changed` holds the names that were given."""

    values: dict[str, Any] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def given(self, name: str) -> bool:
        """Whether the flag was on the command line."""
        return name in self.changed

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


def _as_invalid(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        try:
            return convert(text)
        except InvalidParameter as error:
            raise ValueError(error.message) from None

    return converted


def _parse_filter(text: str) -> str:
    name, equals, value = text.partition("=")
    if not text:
        return ""
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return f"{name.strip().lower()}={value.strip()}"


_CONVERTERS: dict[str, Callable[[str], Any]] = {
    "bool": parse_bool,
    "int": parse_int,
    "int64": parse_int,
    "uint": parse_uint,
    "uint64": parse_uint,
    "uint16": lambda text: parse_uint(text, 16),
    "bytes": _as_invalid(parse_bytes),
    "duration": _as_invalid(parse_duration_ns),
    "decimal": _as_invalid(parse_cpus),
    "filter": _parse_filter,
}


class _Parser:
    def __init__(self, flags: Sequence[Flag], validators: Validators) -> None:
        self.by_long = {flag.long: flag for flag in flags}
        self.by_short = {flag.short: flag for flag in flags if flag.short}
        self.validators = validators
        self.result = Flags({flag.long: flag.default for flag in flags})
        self.help: FlagHelp | None = None

    def set(self, flag: Flag, text: str) -> None:
        convert = self.validators.get(flag.long) or _CONVERTERS.get(flag.kind)
        try:
            value = convert(text) if convert else text
        except ValueError as error:
            raise FlagError(
                f"invalid argument {go_quote(text)} for {go_quote(flag.spelt)} flag: {error}"
            ) from None
        if flag.kind == "strings":
            self.result.values[flag.long] = [*self.result.values[flag.long], *value.split(",")]
        elif flag.repeats:
            self.result.values[flag.long] = [*self.result.values[flag.long], value]
        else:
            self.result.values[flag.long] = value
        self.result.changed.add(flag.long)

    def long(self, word: str, rest: list[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        flag = self.by_long.get(name)
        if flag is None:
            if name == "help":
                self.help = self.help or FlagHelp(deprecated=False)
                return
            raise FlagError(f"unknown flag: --{name}")
        if equals:
            self.set(flag, value)
        elif flag.is_switch:
            self.set(flag, "true")
        elif rest:
            self.set(flag, rest.pop(0))
        else:
            raise FlagError(f"flag needs an argument: --{name}")
        if flag.long == "help" and self.result["help"]:
            raise FlagHelp(deprecated=False)

    def short(self, letters: str, rest: list[str]) -> None:
        """A bundle such as -it, -p8080:80, -n=3."""
        bundle = letters
        while bundle:
            letter, bundle = bundle[0], bundle[1:]
            flag = self.by_short.get(letter)
            if flag is None:
                if letter == "h":
                    self.help = FlagHelp(deprecated=True)
                    continue
                raise FlagError(f"unknown shorthand flag: {_rune(letter)} in -{letter}{bundle}")
            if len(bundle) > 1 and bundle[0] == "=":
                self.set(flag, bundle[1:])
                return
            if flag.is_switch:
                self.set(flag, "true")
            elif bundle:
                self.set(flag, bundle)
                return
            elif rest:
                self.set(flag, rest.pop(0))
                return
            else:
                raise FlagError(f"flag needs an argument: {_rune(letter)} in -{letters}")


def _rune(letter: str) -> str:
    return "'" + ("\\'" if letter == "'" else letter) + "'"


def parse_flags(
    flags: Sequence[Flag],
    words: Sequence[str],
    *,
    interspersed: bool = True,
    validators: Validators | None = None,
) -> tuple[Flags, list[str]]:
    """Split `words` into flags and operands.

    Without `interspersed` everything after the first operand is an operand. `--` ends the flags.
    Raises FlagError with pflag's text, FlagHelp for --help.
    """
    parser = _Parser(flags, validators or {})
    rest = list(words)
    operands: list[str] = []
    while rest:
        word = rest.pop(0)
        if len(word) < 2 or word[0] != "-":
            operands.append(word)
            if not interspersed:
                operands += rest
                break
        elif word == "--":
            operands += rest
            break
        elif word.startswith("--"):
            parser.long(word, rest)
        else:
            parser.short(word[1:], rest)
    if parser.help is not None:
        raise parser.help  # only now: a flag that is wrong is said first
    return parser.result, operands


def flag_usages(flags: Sequence[Flag], columns: int, *, foreign: str = "") -> str:
    """The text below `Options:`, wrapped to fit `columns`.

    Flags whose sentence ends with `foreign` are left out: they are for engines of another kind.
    """
    heads = []
    for flag in sorted(flags, key=lambda flag: flag.long):
        if flag.hidden or (foreign and flag.help.endswith(foreign)):
            continue
        head = f"  -{flag.short}, --{flag.long}" if flag.short else f"      --{flag.long}"
        heads.append((head + ("" if flag.is_switch else f" {flag.kind}"), flag))
    width = max((len(head) for head, _ in heads), default=0) + 3
    return "".join(f"{head:<{width}}{_wrap(width, columns, flag.help)}\n" for head, flag in heads)


def _cut(text: str, width: int, slop: int) -> tuple[str, str]:
    """pflag's line break: the last blank within `width`, unless all of it nearly fits."""
    if width + slop > len(text):
        return text, ""
    window = text[:width]
    break_at = max(window.rfind(blank) for blank in " \t\n")
    if break_at <= 0:
        return text, ""
    newline = window.rfind("\n")
    if 0 < newline < break_at:
        break_at = newline
    return text[:break_at], text[break_at + 1 :]


def _wrap(indent: int, columns: int, text: str) -> str:
    room = columns - indent
    first = ""
    if room < 24:  # too narrow beside the flags: go on in the next line
        indent, room = 16, columns - 16
        first = "\n" + " " * indent
    if room < 24:
        return text.replace("\n", first)
    slop = 5
    room -= slop
    line, rest = _cut(text, room, slop)
    pad = "\n" + " " * indent
    wrapped = first + line.replace("\n", pad)
    while rest:
        line, rest = _cut(rest, room, slop)
        wrapped += pad + line.replace("\n", pad)
    return wrapped
