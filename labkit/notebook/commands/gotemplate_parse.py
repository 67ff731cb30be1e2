"""Reading a Go template: text, actions, and the tree they form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from labkit.notebook.commands.gotext import go_quote

__all__ = ["FUNCTION_NAMES", "Node", "Template", "TemplateSyntaxError", "parse"]

FUNCTION_NAMES = frozenset(
    (
        *("and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf"),
        *("println", "urlquery", "eq", "ge", "gt", "le", "lt", "ne"),
        # Docker's own
        *("json", "split", "join", "title", "lower", "upper", "pad", "truncate"),
    )
)


class TemplateSyntaxError(Exception):
    """The template cannot be read; the text is Go's, `template: :1: …`."""


@dataclass(slots=True)
class Node:
    """One piece of a template. `kind` says which of the other fields mean something:

    text(value) action(pipe) if/with/range(pipe, body, other) | pipe(commands, names, assign)
    command(args) | field(names) variable(names) chain(base, names) dot nil
    const(value) function(value) break continue
    """

    kind: str
    position: int
    source: str = ""
    value: Any = None
    names: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    other: list[Node] = field(default_factory=list)
    pipe: Node | None = None
    base: Node | None = None
    assign: bool = False


@dataclass(slots=True)
class Template:
    """A template that has been read."""

    text: str
    body: list[Node]

    def place(self, position: int) -> str:
        """`:line:column` as Go counts them (bytes, columns from the line's start)."""
        before = self.text.encode()[:position]
        line_start = before.rfind(b"\n") + 1
        line = 1 + before.count(b"\n")
        return f":{line}:{position - line_start}"


@dataclass(slots=True)
class _Token:
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
_NOT_A_COMMAND = frozenset(
    {"right", "close", "eof", "assign", "declare", "comma", "pipe", "text", "other"}
)
_KEYWORDS = frozenset(
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


def _unquote(text: str) -> str:
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


class _Lexer:
    """Tokens of all actions, with the text between them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[_Token] = []
        self.depth = 0

    def line(self, position: int) -> int:
        return 1 + self.text.count("\n", 0, position)

    def fail(self, position: int, message: str) -> TemplateSyntaxError:
        return TemplateSyntaxError(f"template: :{self.line(position)}: {message}")

    def add(self, kind: str, text: str, position: int) -> None:
        byte_position = len(self.text[:position].encode())
        self.tokens.append(_Token(kind, text, byte_position, self.line(position)))

    def run(self) -> list[_Token]:
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
                if kind == "word" and match.group() in _KEYWORDS:
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


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _Lexer(text).run()
        self.at = 0
        self.variables = ["$"]
        self.loops = 0

    # -- tokens ----------------------------------------------------------------------------

    def next(self, *, keep_space: bool = False) -> _Token:
        while True:
            token = self.tokens[self.at]
            if self.at < len(self.tokens) - 1:
                self.at += 1
            if token.kind != "space" or keep_space:
                return token

    def peek(self, *, keep_space: bool = False) -> _Token:
        at = self.at
        while self.tokens[at].kind == "space" and not keep_space:
            at += 1
        return self.tokens[at]

    def fail(self, token: _Token, message: str) -> TemplateSyntaxError:
        return TemplateSyntaxError(f"template: :{token.line}: {message}")

    def unexpected(self, token: _Token, context: str) -> TemplateSyntaxError:
        if token.kind == "eof":
            return self.fail(token, "unexpected EOF")
        shown = f"<{token.text}>" if token.kind == "keyword" else go_quote(token.text)
        return self.fail(token, f"unexpected {shown} in {context}")

    def source(self, start: int, end: int) -> str:
        return self.text.encode()[start:end].decode(errors="replace").strip()

    # -- structure -------------------------------------------------------------------------

    def run(self) -> list[Node]:
        body, end = self.block(top=True)
        assert end.kind == "eof"
        return body

    def block(self, *, top: bool = False) -> tuple[list[Node], _Token]:
        """Nodes up to {{end}}, {{else}} or the end of the template."""
        nodes: list[Node] = []
        while True:
            token = self.next()
            if token.kind == "text":
                nodes.append(Node("text", token.position, value=token.text))
                continue
            if token.kind == "eof":
                if not top:
                    raise self.fail(token, "unexpected EOF")
                return nodes, token
            first = self.peek()
            if first.kind == "keyword":
                if first.text in ("end", "else"):
                    if top:
                        raise self.fail(first, f"unexpected {{{{{first.text}}}}}")
                    return nodes, self.next()
                node = self.control(self.next())
                if node is not None:
                    nodes.append(node)
                    continue
            pipe = self.pipeline("command", "right")
            nodes.append(Node("action", first.position, pipe=pipe))

    def control(self, word: _Token) -> Node | None:
        if word.text in ("if", "with", "range"):
            return self.branch(word)
        if word.text in ("break", "continue"):
            if not self.loops:
                raise self.fail(word, f"{{{{{word.text}}}}} outside {{{{range}}}}")
            self.close_action(word.text)
            return Node(word.text, word.position)
        if word.text == "nil":
            self.at -= 1
            return None
        raise self.unexpected(word, "command")

    def close_action(self, context: str) -> None:
        token = self.next()
        if token.kind != "right":
            raise self.unexpected(token, f"{{{{{context}}}}}")

    def branch(self, word: _Token) -> Node:
        depth = len(self.variables)
        pipe = self.pipeline(word.text, "right")
        self.loops += word.text == "range"
        body, end = self.block()
        other: list[Node] = []
        if end.text == "else":
            following = self.peek()
            if (
                following.kind == "keyword"
                and following.text == word.text
                and word.text in ("if", "with")
            ):
                other = [self.branch(self.next())]
                self.loops -= word.text == "range"
                del self.variables[depth:]
                return Node(word.text, word.position, pipe=pipe, children=body, other=other)
            self.close_action("else")
            other, end = self.block()
            if end.text == "else":
                raise self.fail(end, "expected end; found {{else}}")
        self.close_action("end")
        self.loops -= word.text == "range"
        del self.variables[depth:]
        return Node(word.text, word.position, pipe=pipe, children=body, other=other)

    # -- pipelines -------------------------------------------------------------------------

    def pipeline(self, context: str, end: str) -> Node:
        start = self.peek()
        pipe = Node("pipe", start.position)
        self.declaration(pipe, context)
        while True:
            token = self.peek()
            if token.kind == end:
                if not pipe.children:
                    raise self.fail(token, f"missing value for {context}")
                self.check_pipeline(pipe)
                self.next()
                pipe.source = self.source(start.position, token.position)
                return pipe
            if token.kind in (
                "right",
                "close",
                "eof",
                "assign",
                "declare",
                "comma",
                "pipe",
                "text",
            ):
                raise self.unexpected(token, context if not pipe.children else "operand")
            pipe.children.append(self.command())

    def check_pipeline(self, pipe: Node) -> None:
        for number, command in enumerate(pipe.children[1:], start=2):
            if command.children[0].kind in ("const", "dot", "nil"):
                raise TemplateSyntaxError(
                    f"template: :{1 + self.text.encode()[: command.position].count(10)}: "
                    f"non executable command in pipeline stage {number}"
                )

    def declaration(self, pipe: Node, context: str) -> None:
        mark = self.at
        names: list[str] = []
        while self.peek().kind == "variable":
            names.append(self.next().text)
            token = self.peek()
            if token.kind in ("declare", "assign"):
                self.next()
                pipe.names, pipe.assign = names, token.kind == "assign"
                if pipe.assign:
                    for name in names:
                        self.check_variable(name, token)
                else:
                    self.variables += names
                return
            if token.kind == "comma" and context == "range" and len(names) == 1:
                self.next()
                continue
            break
        self.at = mark

    def check_variable(self, name: str, token: _Token) -> None:
        if name not in self.variables:
            raise self.fail(token, f"undefined variable {go_quote(name)}")

    def command(self) -> Node:
        start = self.peek()
        command = Node("command", start.position)
        while True:
            while self.peek(keep_space=True).kind == "space":
                self.next(keep_space=True)
            operand = self.operand()
            if operand is not None:
                command.children.append(operand)
            token = self.peek(keep_space=True)
            if token.kind == "space":
                continue
            if token.kind in ("right", "close"):
                break
            if token.kind == "pipe":
                if not command.children:
                    raise self.unexpected(token, "operand")
                self.next()
                break
            raise self.unexpected(token, "operand")
        if not command.children:
            raise self.fail(start, "empty command")
        command.source = " ".join(child.source for child in command.children)
        return command

    def operand(self) -> Node | None:
        node = self.term()
        if node is None:
            return None
        if self.peek(keep_space=True).kind != "field":
            return node
        position = self.peek(keep_space=True).position
        names = []
        while self.peek(keep_space=True).kind == "field":
            names.append(self.next(keep_space=True).text[1:])
        suffix = "".join(f".{name}" for name in names)
        if node.kind in ("field", "variable"):
            return Node(node.kind, position, node.source + suffix, names=node.names + names)
        if node.kind in ("const", "nil"):
            raise TemplateSyntaxError(
                f"template: :1: unexpected . after term {go_quote(node.source)}"
            )
        return Node("chain", position, node.source + suffix, names=names, base=node)

    def term(self) -> Node | None:
        token = self.peek(keep_space=True)
        kind, text = token.kind, token.text
        if kind == "word" and text not in ("true", "false"):
            if text not in FUNCTION_NAMES:
                raise self.fail(token, f"function {go_quote(text)} not defined")
            node = Node("function", token.position, text, value=text)
        elif kind == "dot":
            node = Node("dot", token.position, ".")
        elif kind == "field":
            node = Node("field", token.position, text, names=[text[1:]])
        elif kind == "variable":
            self.check_variable(text, token)
            node = Node("variable", token.position, text, names=[text])
        elif kind == "keyword" and text == "nil":
            node = Node("nil", token.position, "nil")
        elif kind == "open":
            self.next(keep_space=True)
            pipe = self.pipeline("parenthesized pipeline", "close")
            pipe.source = f"({pipe.source})"
            return pipe
        elif kind in ("string", "raw", "char", "number") or kind == "word":
            node = Node("const", token.position, text, value=self.constant(token))
        else:
            return None
        self.next(keep_space=True)
        return node

    def constant(self, token: _Token) -> Any:
        text = token.text
        try:
            if token.kind == "string":
                return _unquote(text)
            if token.kind == "raw":
                return text[1:-1]
            if token.kind == "char":
                return ord(_unquote(text))
            if token.kind == "word":
                return text == "true"
            plain = text.replace("_", "")
            if re.fullmatch(r"[+-]?\d+", plain):
                return int(plain)
            if re.fullmatch(r"[+-]?0[xXoObB][0-9a-fA-F]+", plain):
                return int(plain, 0)
            return float(plain)
        except (ValueError, TypeError):
            raise self.fail(token, f"bad number syntax: {go_quote(text)}") from None


def parse(text: str) -> Template:
    """Read a template; raises TemplateSyntaxError with Go's words."""
    return Template(text, _Parser(text).run())
