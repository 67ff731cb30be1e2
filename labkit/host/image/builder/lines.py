"""One instruction of a Dockerfile taken apart: its word, its flags, and the words of the rest."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping

from labkit.host.image.builder.lexer import DockerfileError, LogicalLine

__all__ = ["Line", "json_words", "split_words"]


class Line:
    """One instruction's word, flags and rest; `fail` says which line is wrong."""

    def __init__(self, line: LogicalLine, escape: str) -> None:
        self.number = line.number
        self.heredocs = line.heredocs
        self.escape = escape
        word, _, rest = line.text.partition(" ")
        if "\t" in word:
            word, _, tail = line.text.partition("\t")
            rest = tail
        self.word = word.upper()
        self.spelt = word
        self.flags, self.rest = self._flags(rest.strip())
        self.source = f"{self.word} {line.text[len(word) :].strip()}".strip()

    def fail(self, reason: str, *, hint: str | None = None) -> DockerfileError:
        return DockerfileError(self.number, reason, hint=hint)

    def _flags(self, rest: str) -> tuple[list[tuple[str, str]], str]:
        """Leading `--name[=value]` words; a bare `--` ends them."""
        found: list[tuple[str, str]] = []
        while rest.startswith("--"):
            word, rest = first_word(rest, self.escape)
            rest = rest.lstrip()
            if word == "--":
                break
            name, _, value = word[2:].partition("=")
            found.append((name, value))
        return found, rest

    def take(
        self, *allowed: str, several: tuple[str, ...] = (), switches: tuple[str, ...] = ()
    ) -> dict[str, str]:
        """The flags by name; `several` may be repeated and are left to `every`."""
        taken: dict[str, str] = {}
        for name, value in self.flags:
            if name in several:
                continue
            if name not in allowed and name not in switches:
                known = (*allowed, *several, *switches)
                raise self.fail(f"unknown flag: --{name}", hint=_nearest_flag(name, known))
            if name in taken:
                raise self.fail(f"duplicate flag specified: --{name}")
            if not value and name not in switches:
                raise self.fail(f"missing a value on flag: --{name}")
            taken[name] = value
        return taken

    def every(self, name: str) -> tuple[str, ...]:
        """All values of a flag that may be repeated."""
        return tuple(value for flag, value in self.flags if flag == name)

    def switch(self, name: str, taken: Mapping[str, str]) -> bool:
        """A flag that is true when it stands without a value."""
        value = taken.get(name)
        if value is None:
            return False
        if value.lower() not in ("", "true", "1", "false", "0"):
            raise self.fail(f"expecting boolean value for flag {name}, not: {value}")
        return value.lower() in ("", "true", "1")


def _nearest_flag(name: str, allowed: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(name, allowed, 1)
    return f"did you mean --{near[0]}?" if near else None


def first_word(text: str, escape: str) -> tuple[str, str]:
    """The first word, quotes and escapes resolved, and what follows it."""
    word, quote, at = "", "", 0
    while at < len(text):
        character = text[at]
        if character == escape and at + 1 < len(text) and quote != "'":
            word += text[at + 1]
            at += 2
            continue
        if quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in "'\"":
            quote = character
        elif character.isspace():
            break
        else:
            word += character
        at += 1
    return word, text[at:]


def split_words(text: str, escape: str) -> list[str]:
    """Words divided at blanks outside quotes; quotes and escapes stay in them."""
    words, word, quote, at = [], "", "", 0
    while at < len(text):
        character = text[at]
        if character == escape and at + 1 < len(text) and quote != "'":
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            if word:
                words.append(word)
            word = ""
            at += 1
            continue
        word += character
        at += 1
    return [*words, word] if word else words


def json_words(text: str) -> tuple[str, ...] | None:
    """An exec form, or None: whatever is not a JSON list of strings is taken as shell text."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return None
    if any("\0" in item or not _is_unicode(item) for item in found):
        return None
    return tuple(found)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
