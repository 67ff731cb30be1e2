"""`$variables`, quotes and escapes in a Dockerfile's words.

Not a shell: no commands, no globs; `$x`, `${x}`, `${x:-word}`, `${x-word}`, `${x:+word}`,
`${x+word}`, `${x:?word}` and `${x?word}`, single quotes that protect, double quotes that group.
Reference: Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

from collections.abc import Mapping

from labkit.base.errors import InvalidParameter

__all__ = ["expand", "expand_words"]

_SPECIAL = frozenset("@*#?-$!0123456789")
_MAX_DEPTH = 50
_MAX_CHARS = 1 << 20


class _Expander:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise InvalidParameter("variables are nested too deeply")
        self.text = text
        self.variables = variables
        self.escape = escape
        self.depth = depth
        self.at = 0
        self.words: list[str] = []
        self.word = ""
        self.has_word = False

    def run(self) -> None:
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "'":
                self._single()
            elif character == '"':
                self._double()
            elif character == "$":
                self._unquoted(self._variable())
            elif character == self.escape:
                self.at += 1
                if self.at < len(self.text):
                    self._add(self.text[self.at])
                    self.at += 1
            elif character.isspace():
                self.word += character if self.depth else ""
                self._end()
                self.at += 1
            else:
                self._add(character)
                self.at += 1
            if len(self.word) > _MAX_CHARS:
                raise InvalidParameter("a word grows too large by its variables")
        self._end()

    def _add(self, text: str) -> None:
        self.word += text
        self.has_word = True

    def _end(self) -> None:
        if self.has_word:
            self.words.append(self.word)
        self.word, self.has_word = "", False

    def _unquoted(self, value: str) -> None:
        """A variable's blanks divide words; its quotes mean nothing."""
        pieces = value.split()
        if not pieces:
            if value:
                self._end()
            return
        if value[0].isspace():
            self._end()
        for piece in pieces[:-1]:
            self._add(piece)
            self._end()
        self._add(pieces[-1])
        if value[-1].isspace():
            self._end()

    def _single(self) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise InvalidParameter(
                "unexpected end of statement while looking for matching single-quote"
            )
        self._add(self.text[self.at + 1 : end])
        self.at = end + 1

    def _double(self) -> None:
        self.at += 1
        self._add("")
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return
            if character == "$":
                self._add(self._variable())
                continue
            if character == self.escape and self.at + 1 < len(self.text):
                following = self.text[self.at + 1]
                # Inside quotes the escape is itself, except before what would mean something.
                self._add(
                    following if following in ('"', "$", self.escape) else character + following
                )
                self.at += 2
                continue
            self._add(character)
            self.at += 1
        raise InvalidParameter(
            "unexpected end of statement while looking for matching double-quote"
        )

    def _variable(self) -> str:
        self.at += 1
        if self.at >= len(self.text):
            return "$"
        if self.text[self.at] == "{":
            return self._braced()
        name = self._name()
        return self.variables.get(name, "") if name else "$"

    def _name(self) -> str:
        start = self.at
        while self.at < len(self.text):
            character = self.text[self.at]
            is_letter = character.isascii() and (character.isalpha() or character == "_")
            if not is_letter and not (self.at > start and character.isdigit()):
                if self.at == start and character in _SPECIAL:
                    self.at += 1
                break
            self.at += 1
        return self.text[start : self.at]

    def _braced(self) -> str:
        self.at += 1
        name = self._name()
        if not name:
            raise InvalidParameter("bad substitution: ${" + self.text[self.at : self.at + 20])
        value = self.variables.get(name)
        rest = self.text[self.at : self.at + 2]
        if rest[:1] == "}":
            self.at += 1
            return value or ""
        colon = rest[:1] == ":"
        operator = rest[1:2] if colon else rest[:1]
        if operator not in ("-", "+", "?") or not operator:
            raise InvalidParameter(f"unsupported modifier ({operator or rest}) in substitution")
        self.at += 2 if colon else 1
        alternative = self._alternative()
        is_set = bool(value) if colon else value is not None
        if operator == "?" and not is_set:
            raise InvalidParameter(f"{name}: {alternative or 'is not allowed to be unset'}")
        if operator == "+":
            return alternative if is_set else ""
        return (value or "") if is_set else alternative

    def _alternative(self) -> str:
        """What stands up to the matching brace, expanded itself."""
        start, depth = self.at, 1
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == self.escape:
                self.at += 1
            elif character == "$" and self.text[self.at + 1 : self.at + 2] == "{":
                depth += 1
                self.at += 1
            elif character == "}":
                depth -= 1
                if not depth:
                    break
            self.at += 1
        if depth:
            raise InvalidParameter("unexpected end of statement while looking for matching }")
        inner = self.text[start : self.at]
        self.at += 1
        return _one(inner, self.variables, self.escape, self.depth + 1)


class _Whole(_Expander):
    """The same, but blanks are characters like others: for values that are one word."""

    def _unquoted(self, value: str) -> None:
        self._add(value)

    def _end(self) -> None:
        return

    def run(self) -> None:
        self.depth = max(self.depth, 1)  # keep blanks
        super().run()


def _one(text: str, variables: Mapping[str, str], escape: str, depth: int) -> str:
    expander = _Whole(text, variables, escape, depth)
    expander.run()
    return expander.word


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """`text` as one word. Raises InvalidParameter for an open quote or brace."""
    return _one(text, variables, escape, 0)


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """`text` as words: an unquoted variable may give several, or none."""
    expander = _Expander(text, variables, escape, 0)
    expander.run()
    return expander.words
