"""Tokens of a Go template: the text between actions, and the words inside them."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["KEYWORDS", "Lexer", "TemplateSyntaxError", "Token", "unquote"]


class TemplateSyntaxError(Exception):
    """The template cannot be read; the text is Go's, `template: :1: …`."""


@dataclass(slots=True)
class Token:
    kind: str
    text: str
    position: int
    line: int


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))
    |(?P<declare>:=)
    |(?P<assign>=)
    |(?P<pipe>\|)
    |(?P<comma>,)
    |(?P<open>\()
    |(?P<close>\))
    |(?P<field>\.[^\W\d]\w*)
    |(?P<dot>\.)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<other>[!\#-&(-_a-~])
    """,
    re.VERBOSE,
)
KEYWORDS = frozenset(
    {
        "if",
        "else",
        "end",
        "range",
        "with",
        "nil",
        "break",
        "continue",
        "define",
        "template",
        "block",
    }
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)")
_SIMPLE_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
}


def unquote(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if code in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[code]
        if code[0] in "xuU":
            return chr(int(code[1:], 16))
        if code.isdigit():
            return chr(int(code, 8))
        raise ValueError("invalid syntax")

    return _ESCAPE.sub(replace, text[1:-1])


class Lexer:
    """Tokens of all actions, with the text between them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.depth = 0

    def line(self, position: int) -> int:
        return 1 + self.text.count("\n", 0, position)

    def fail(self, position: int, message: str) -> TemplateSyntaxError:
        return TemplateSyntaxError(f"template: :{self.line(position)}: {message}")

    def add(self, kind: str, text: str, position: int) -> None:
        byte_position = len(self.text[:position].encode())
        self.tokens.append(Token(kind, text, byte_position, self.line(position)))

    def run(self) -> list[Token]:
        position = 0
        text = self.text
        trim_next = False
        while True:
            start = text.find("{{", position)
            piece = text[position:] if start < 0 else text[position:start]
            if trim_next:
                piece = piece.lstrip(" \t\r\n")
            if start >= 0 and self._trims_left(start):
                piece = piece.rstrip(" \t\r\n")
            if piece:
                self.add("text", piece, position)
            if start < 0:
                break
            position, trim_next = self._action(start)
        self.add("eof", "EOF", len(text))
        return self.tokens

    def _trims_left(self, start: int) -> bool:
        return self.text[start + 2 : start + 3] == "-" and self.text[
            start + 3 : start + 4
        ] in tuple(" \t\r\n")

    def _action(self, start: int) -> tuple[int, bool]:
        text = self.text
        position = start + (3 if self._trims_left(start) else 2)
        comment = position + (
            len(text[position:]) - len(text[position:].lstrip(" \t\r\n"))
            if self._trims_left(start)
            else 0
        )
        if text.startswith("/*", comment):
            return self._comment(comment)
        self.add("left", "{{", start)
        depth = 0
        while True:
            end = self._right(position)
            if end is not None:
                if depth:
                    raise self.fail(position, "unclosed left paren")
                self.add("right", "}}", position)
                return end
            if position >= len(text):
                raise self.fail(start, "unclosed action")
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._bad(position)
            kind = str(match.lastgroup)
            if kind == "space":
                if self._right(position) is None:
                    self.add("space", match.group(), position)
            else:
                depth += {"open": 1, "close": -1}.get(kind, 0)
                if depth < 0:
                    raise self.fail(position, "unexpected right paren")
                if kind == "word" and match.group() in KEYWORDS:
                    kind = "keyword"
                self.add(kind, match.group(), position)
                if kind in ("word", "keyword", "field", "variable"):
                    self._check_end(match.end())
            position = match.end()

    def _check_end(self, position: int) -> None:
        """A name must end where something else may begin."""
        character = self.text[position : position + 1]
        if character and character not in " \t\r\n.,|:)(=" and self._right(position) is None:
            raise self.fail(position, f"bad character {_code_point(character)}")

    def _right(self, position: int) -> tuple[int, bool] | None:
        """Where the action ends if it does here, and whether it trims what follows."""
        if self.text.startswith("}}", position):
            return position + 2, False
        match = re.compile(r"[ \t\r\n]+-}}").match(self.text, position)
        if match:
            return match.end(), True
        return None

    def _comment(self, position: int) -> tuple[int, bool]:
        end = self.text.find("*/", position)
        if end < 0:
            raise self.fail(position, "unclosed comment")
        closing = self._right(end + 2)
        if closing is None:
            raise self.fail(position, "comment ends before closing delimiter")
        return closing

    def _bad(self, position: int) -> TemplateSyntaxError:
        character = self.text[position]
        if character in "\"'`":
            what = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[
                character
            ]
            return self.fail(position, f"unterminated {what}")
        return self.fail(position, f"unrecognized character in action: {_code_point(character)}")


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X} '{character}'"
