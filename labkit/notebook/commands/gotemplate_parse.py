"""Reading a Go template: text, actions, and the tree they form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from labkit.notebook.commands.gotemplate_lex import Lexer, TemplateSyntaxError, Token, unquote
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


@dataclass(slots=True)
class Node:
    """One piece of a template. `kind` says which of the other fields mean something:

    text(value) action(pipe) if/with/range(pipe, body, other) | pipe(commands, names, assign)
    command(args) | field(names) variable(names) chain(base, names) dot nil
    const(value) function(value) break continue template(value: its name, pipe)
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
    """A template that has been read; `named` are those it defines for itself."""

    text: str
    body: list[Node]
    named: dict[str, list[Node]] = field(default_factory=dict)

    def place(self, position: int) -> str:
        """`:line:column` as Go counts them (bytes, columns from the line's start)."""
        before = self.text.encode()[:position]
        line_start = before.rfind(b"\n") + 1
        line = 1 + before.count(b"\n")
        return f":{line}:{position - line_start}"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = Lexer(text).run()
        self.at = 0
        self.variables = ["$"]
        self.loops = 0
        self.named: dict[str, list[Node]] = {}

    # -- tokens ----------------------------------------------------------------------------

    def next(self, *, keep_space: bool = False) -> Token:
        while True:
            token = self.tokens[self.at]
            if self.at < len(self.tokens) - 1:
                self.at += 1
            if token.kind != "space" or keep_space:
                return token

    def peek(self, *, keep_space: bool = False) -> Token:
        at = self.at
        while self.tokens[at].kind == "space" and not keep_space:
            at += 1
        return self.tokens[at]

    def fail(self, token: Token, message: str) -> TemplateSyntaxError:
        return TemplateSyntaxError(f"template: :{token.line}: {message}")

    def unexpected(self, token: Token, context: str) -> TemplateSyntaxError:
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

    def block(self, *, top: bool = False) -> tuple[list[Node], Token]:
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
                if top and first.text == "define":
                    self.definition(self.next())
                    continue
                node = self.control(self.next())
                if node is not None:
                    nodes.append(node)
                    continue
            pipe = self.pipeline("command", "right")
            nodes.append(Node("action", first.position, pipe=pipe))

    def control(self, word: Token) -> Node | None:
        if word.text in ("if", "with", "range"):
            return self.branch(word)
        if word.text in ("break", "continue"):
            if not self.loops:
                raise self.fail(word, f"{{{{{word.text}}}}} outside {{{{range}}}}")
            self.close_action(word.text)
            return Node(word.text, word.position)
        if word.text == "template":
            return self.inclusion()
        if word.text == "block":
            return self.block_in_place(word)
        if word.text == "nil":
            self.at -= 1
            return None
        raise self.unexpected(word, "command")

    # -- named templates -------------------------------------------------------------------

    def name_of_template(self, context: str) -> str:
        token = self.next()
        if token.kind not in ("string", "raw"):
            raise self.unexpected(token, f"{context} clause")
        return str(self.constant(token))

    def definition(self, word: Token) -> None:
        """{{define "name"}} … {{end}}"""
        name = self.name_of_template("define")
        closing = self.next()
        if closing.kind != "right":
            raise self.unexpected(closing, "define clause")
        self.add_named(word, name, "define clause")

    def add_named(self, word: Token, name: str, context: str) -> None:
        """Read a template's body, which sees no variable of its surroundings and is no loop."""
        outside = self.variables, self.loops
        self.variables, self.loops = ["$"], 0
        body, end = self.block()
        if end.text == "else":
            raise self.fail(end, f"unexpected {{{{else}}}} in {context}")
        self.close_action("end")
        self.variables, self.loops = outside
        if any(not _is_blank(one) for one in self.named.get(name, ())):
            raise self.fail(word, f"template: multiple definition of template {go_quote(name)}")
        self.named[name] = body

    def inclusion(self) -> Node:
        """{{template "name"}} and {{template "name" pipeline}}"""
        node = Node("template", self.peek().position, value=self.name_of_template("template"))
        if self.peek().kind == "right":
            self.next()
        else:
            node.pipe = self.pipeline("template clause", "right")
        return self.shown(node)

    def block_in_place(self, word: Token) -> Node:
        """{{block "name" pipeline}} … {{end}}: defined and included at once."""
        node = Node("template", self.peek().position, value=self.name_of_template("block"))
        node.pipe = self.pipeline("block clause", "right")
        self.add_named(word, node.value, "block clause")
        return self.shown(node)

    @staticmethod
    def shown(node: Node) -> Node:
        pipe = f" {node.pipe.source}" if node.pipe is not None else ""
        node.source = f"{{{{template {go_quote(node.value)}{pipe}}}}}"
        return node

    # -- structure, continued --------------------------------------------------------------

    def close_action(self, context: str) -> None:
        token = self.next()
        if token.kind != "right":
            raise self.unexpected(token, f"{{{{{context}}}}}")

    def branch(self, word: Token) -> Node:
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

    def check_variable(self, name: str, token: Token) -> None:
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

    def constant(self, token: Token) -> Any:
        text = token.text
        try:
            if token.kind == "string":
                return unquote(text)
            if token.kind == "raw":
                return text[1:-1]
            if token.kind == "char":
                return ord(unquote(text))
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
    parser = _Parser(text)
    return Template(text, parser.run(), parser.named)


def _is_blank(node: Node) -> bool:
    """Whether it is text without anything to see, which a definition may replace."""
    return node.kind == "text" and not str(node.value).strip()
