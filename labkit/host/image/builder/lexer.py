"""The lines of a Dockerfile, before anyone asks what they mean.

A logical line may span several physical ones: a continuation (the escape character at the line's
end, comments and blank lines in between left out) or a heredoc (`<<EOF` … `EOF`). Reference:
Dockerfile reference, "Parser directives", "Format" and "Here-Documents".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from labkit.base.errors import InvalidParameter

__all__ = ["DockerfileError", "Heredoc", "Lexed", "LogicalLine", "lex"]

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"(?<![<\d])(\d*)<<(-?)([^<]*)\Z")
_HEREDOC_INSTRUCTIONS = frozenset({"ADD", "COPY", "RUN"})
_MAX_BYTES = 1 << 20


class DockerfileError(InvalidParameter):
    """The one error of parsing: it says on which line and what is wrong with it."""

    def __init__(self, line: int, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"dockerfile parse error on line {line}: {reason}", hint=hint)
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Heredoc:
    """`<<NAME`. `expand` is false where the name was quoted; `strip_tabs` is `<<-`."""

    name: str
    content: str
    expand: bool = True
    strip_tabs: bool = False


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text. `number` and `end` are its first and last physical lines, from 1."""

    number: int
    end: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()
    has_blank: bool = False
    """An empty line stood inside a continuation, which Docker warns about."""


@dataclass(frozen=True, slots=True)
class Lexed:
    """All lines, and what the directives above them said."""

    lines: tuple[LogicalLine, ...]
    escape: str = "\\"
    syntax: str = ""


class _Lines:
    """Physical lines with their numbers, taken one by one."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        if self._lines and not self._lines[-1]:
            self._lines.pop()
        self.number = 0

    def next(self) -> str | None:
        if self.number >= len(self._lines):
            return None
        self.number += 1
        return self._lines[self.number - 1]

    def back(self) -> None:
        self.number -= 1


def lex(source: bytes | str) -> Lexed:
    """Split a Dockerfile into logical lines. Raises DockerfileError, never anything else."""
    text = source.decode("utf-8", "replace") if isinstance(source, bytes) else source
    if len(text) > _MAX_BYTES:
        raise DockerfileError(1, f"the Dockerfile is larger than {_MAX_BYTES} bytes")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if "\0" in text:
        raise DockerfileError(text[: text.index("\0")].count("\n") + 1, "a NUL byte")
    lines = _Lines(text)
    directives = _directives(lines)
    escape = directives.get("escape", "\\")
    return Lexed(tuple(_logical(lines, escape)), escape, directives.get("syntax", ""))


def _directives(lines: _Lines) -> dict[str, str]:
    """Directives stand above everything else; the first other line ends them."""
    found: dict[str, str] = {}
    while (line := lines.next()) is not None:
        match = _DIRECTIVE.match(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            lines.back()
            return found
        if name in found:
            raise DockerfileError(lines.number, f"only one {name} parser directive can be used")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise DockerfileError(
                lines.number, f"invalid escape token '{match[2]}' does not match ` or \\"
            )
        found[name] = match[2]
    return found


def _logical(lines: _Lines, escape: str) -> Iterator[LogicalLine]:
    continued = re.compile(rf"(?:(?<=[^{re.escape(escape)}])|\A){re.escape(escape)}[ \t]*\Z")
    while (line := lines.next()) is not None:
        start, has_blank = lines.number, False
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        pieces = []
        while True:
            match = continued.search(line)
            pieces.append(line[: match.start()] if match else line)
            if match is None:
                break
            following = _continuation(lines)
            if following is None:
                break
            line, skipped = following
            has_blank = has_blank or skipped
        text = "".join(pieces).strip()
        if not text:
            continue
        heredocs = _heredocs(lines, text, start)
        yield LogicalLine(start, lines.number, text, heredocs, has_blank)


def _continuation(lines: _Lines) -> tuple[str, bool] | None:
    """The next line that is neither a comment nor empty, and whether an empty one was skipped."""
    has_blank = False
    while (line := lines.next()) is not None:
        stripped = line.strip()
        if not stripped:
            has_blank = True
        elif not stripped.startswith("#"):
            return line, has_blank
    return None


def _heredocs(lines: _Lines, text: str, start: int) -> tuple[Heredoc, ...]:
    words = text.split(None, 1)
    instruction = words[0].upper()
    if instruction == "ONBUILD" and len(words) > 1:
        instruction = words[1].split(None, 1)[0].upper()
    if instruction not in _HEREDOC_INSTRUCTIONS or "<<" not in text:
        return ()
    found = []
    for word in _shell_words(text):
        match = _HEREDOC.match(word)
        if match is None:
            continue
        name = re.sub(r"['\"\\]", "", match[3])
        if not name:
            continue
        body = _heredoc_body(lines, name, start, strip_tabs=bool(match[2]))
        found.append(Heredoc(name, body, name == match[3], bool(match[2])))
    return tuple(found)


def _heredoc_body(lines: _Lines, name: str, start: int, *, strip_tabs: bool) -> str:
    body: list[str] = []
    while (line := lines.next()) is not None:
        kept = line.lstrip("\t") if strip_tabs else line
        if kept == name:
            return "".join(f"{row}\n" for row in body)
        body.append(kept)
    raise DockerfileError(
        start, f"unterminated heredoc: {name}", hint=f"end it with a line that is just {name}"
    )


def _shell_words(text: str) -> list[str]:
    """Words divided at blanks outside quotes, quotes kept: enough to see a `<<"EOF"`."""
    words, word, quote = [], "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
            word += character
        elif character in "'\"":
            quote = character
            word += character
        elif character.isspace() or character in ";|&()":
            words.append(word)
            word = ""
        else:
            word += character
    words.append(word)
    return [word for word in words if word]
