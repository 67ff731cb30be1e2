"""A tree of commands as data: finding the command, checking its operands, printing its help.

The sentences and exit codes are those of Docker's client 28 (measured): a bad flag ends with 125,
a wrong number of operands or an unknown command with 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.flags import Flag, Flags, flag_usages, read_table

if TYPE_CHECKING:
    from labkit.notebook.client import Client
    from labkit.notebook.commands.surface import Surface

__all__ = ["Call", "Command", "Group", "Tree", "check_operands", "help_text"]


@dataclass(frozen=True)
class Command:
    """One command: what is typed, what help says, and which function carries it out.

    `path` is the canonical spelling without the program (`container ls`), `spellings` the others
    in the order help lists them. `handler` is `module:function`; it is imported when needed.
    """

    path: str
    usage: str
    description: str
    handler: str
    operands: tuple[int, int | None] = (0, None)
    spellings: tuple[str, ...] = ()
    interspersed: bool = True
    completes: str = ""
    flags: str = ""

    @cached_property
    def table(self) -> list[Flag]:
        return read_table(self.flags) if self.flags.strip() else []

    @property
    def short(self) -> str:
        """The first line of the description."""
        return self.description.partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Group:
    """A word that only gathers commands (`container`)."""

    path: str
    description: str


@dataclass(slots=True)
class Call:
    """One command line on its way: what was typed, and the world it acts on."""

    command: Command
    name: str
    flags: Flags
    args: list[str]
    client: Client
    surface: Surface
    cwd: Path

    def run(self, package: str) -> int:
        """Import the handler from `package` and let it work; returns the exit code."""
        module_name, _, function_name = self.command.handler.partition(":")
        module = importlib.import_module(f"{package}.{module_name}")
        function: Callable[[Call], int | None] = getattr(module, function_name)
        return function(self) or 0


@dataclass(frozen=True)
class Tree:
    """All commands of one program."""

    program: str
    description: str
    commands: tuple[Command, ...]
    groups: tuple[Group, ...]
    common: tuple[str, ...] = field(default=())
    options: str = ""

    @cached_property
    def index(self) -> dict[str, Command]:
        """Every spelling of every command."""
        found: dict[str, Command] = {}
        for command in self.commands:
            for spelling in (command.path, *command.spellings):
                found[spelling] = command
        return found

    @cached_property
    def group_index(self) -> dict[str, Group]:
        return {group.path: group for group in self.groups}

    @cached_property
    def option_table(self) -> list[Flag]:
        return read_table(self.options)

    def children(self, prefix: str) -> list[tuple[str, str]]:
        """Words that may follow `prefix` ("" for the program) and what they do, sorted.

        Aliases are left out, as help leaves them out.
        """
        start = f"{prefix} " if prefix else ""
        words: dict[str, str] = {}
        for command in self.commands:
            for spelling in (command.path, *command.spellings):
                head, _, last = spelling.rpartition(" ")
                own_group = command.path.rpartition(" ")[0]
                is_alias = prefix == own_group and prefix != "" and spelling != command.path
                if head == prefix and not is_alias:
                    words[last] = command.short
        for group in self.groups:
            if group.path.startswith(start) and " " not in group.path[len(start) :]:
                words[group.path[len(start) :]] = group.description
        return sorted(words.items())

    def find(self, words: Sequence[str]) -> tuple[str, Command | Group | None, list[str]]:
        """The longest spelling that `words` begin with, what it names, and the words after it."""
        path = ""
        used = 0
        for word in words:
            candidate = f"{path} {word}".strip()
            if candidate in self.index:
                command = self.index[candidate]
                # An alias inside its group goes by the canonical name; `docker ps` keeps its own.
                inside = path != "" and path == command.path.rpartition(" ")[0]
                known_as = command.path if inside else candidate
                return known_as, command, list(words[used + 1 :])
            if candidate not in self.group_index:
                break
            path, used = candidate, used + 1
        return path, self.group_index.get(path), list(words[used:])


def _plural(count: int) -> str:
    return f"{count} argument" if count == 1 else f"{count} arguments"


def check_operands(name: str, command: Command, operands: Sequence[str]) -> None:
    """Raise CommandError with the client's sentence when the number of operands is wrong."""
    low, high = command.operands
    count = len(operands)
    see = "Run"
    if low <= count and (high is None or count <= high):
        return
    if high == 0:
        sentence = "accepts no arguments"
    elif low == high:
        sentence = f"requires {_plural(low)}"
    elif high is None:
        sentence, see = f"requires at least {_plural(low)}", "See"
    elif low == 0:
        sentence, see = f"requires at most {_plural(high)}", "SRun"  # so spelt in Docker 28
    else:
        sentence = f"requires at least {low} and at most {_plural(high)}"
    raise CommandError(
        f"docker: '{name}' {sentence}\n\nUsage:  {name} {command.usage}\n\n"
        f"{see} '{name} --help' for more information"
    )


def help_text(
    tree: Tree, path: str, command: Command | Group | None, columns: int, *, foreign: str = ""
) -> str:
    """What `--help` prints. Flags that end with `foreign` are left out (`flag_usages`)."""
    if command is None:
        return _program_help(tree, columns)
    name = f"{tree.program} {path}"
    if isinstance(command, Group):
        return _group_help(tree, name, path, command)
    text = f"Usage:  {name} {command.usage}".rstrip() + f"\n\n{command.description}\n"
    if command.spellings:
        names = ", ".join(f"{tree.program} {x}" for x in (command.path, *command.spellings))
        text += f"\nAliases:\n  {names}\n"
    if command.table:
        text += f"\nOptions:\n{flag_usages(command.table, columns - 1, foreign=foreign)}"
    return text


def _listing(words: Sequence[tuple[str, str]]) -> str:
    return "".join(f"  {word:<11} {short}\n" for word, short in words)


def _group_help(tree: Tree, name: str, path: str, group: Group) -> str:
    return (
        f"Usage:  {name} COMMAND\n\n{group.description}\n\nCommands:\n"
        f"{_listing(tree.children(path))}\n"
        f"Run '{name} COMMAND --help' for more information on a command.\n"
    )


def _program_help(tree: Tree, columns: int) -> str:
    words = dict(tree.children(""))
    common = [(word, words[word]) for word in tree.common if word in words]
    management = [(word, short) for word, short in words.items() if word in tree.group_index]
    known = {word for word, _ in common} | {word for word, _ in management}
    others = [(word, short) for word, short in words.items() if word not in known]
    program = tree.program
    return (
        f"Usage:  {program} [OPTIONS] COMMAND\n\n{tree.description}\n\n"
        f"Common Commands:\n{_listing(common)}\n"
        f"Management Commands:\n{_listing(management)}\n"
        f"Commands:\n{_listing(others)}\n"
        f"Global Options:\n{flag_usages(tree.option_table, columns - 1)}\n"
        f"Run '{program} COMMAND --help' for more information on a command.\n\n"
        "For more help on how to use Docker, head to https://docs.docker.com/go/guides/\n"
    )


def records(tree: Tree) -> list[dict[str, Any]]:
    """Every command with its flags as plain data: what reference pages are made of."""
    return [
        {
            "path": command.path,
            "spellings": list(command.spellings),
            "usage": command.usage,
            "description": command.description,
            "flags": [
                {"long": flag.long, "short": flag.short, "kind": flag.kind, "help": flag.help}
                for flag in command.table
                if not flag.hidden
            ],
        }
        for command in tree.commands
    ]
