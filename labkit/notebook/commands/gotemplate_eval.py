"""Evaluating a Go template on plain data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.notebook.commands.gotemplate_functions import (
    FUNCTIONS,
    NO_VALUE,
    SIGNATURES,
    CallError,
    GoMap,
    go_format,
    is_true,
    kind_of,
    type_name,
)
from labkit.notebook.commands.gotemplate_parse import Node, Template
from labkit.notebook.commands.gotext import go_quote

__all__ = ["Evaluator", "TemplateError"]


# Go stops a template that includes itself at 100000 levels; Python's stack is not as deep.
_DEPTH_MAX = 100


class TemplateError(Exception):
    """Evaluation failed; the text is Go's."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Evaluator:
    """One run of one template."""

    def __init__(
        self,
        template: Template,
        *,
        type_name: str = "",
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.template = template
        self.type_name = type_name
        self.functions = {**FUNCTIONS, **(functions or {})}
        self.variables: list[tuple[str, Any]] = []
        self.root: Any = None
        self.parts: list[str] = []
        self.name = ""
        self.depth = 0

    def run(self, data: Any) -> str:
        """The text; raises TemplateError."""
        self.parts = []
        self.root = data
        self.variables = [("$", data)]
        self.walk(self.template.body, data)
        return "".join(self.parts)

    def fail(self, node: Node, message: str) -> TemplateError:
        place = self.template.place(node.position)
        return TemplateError(
            f"template: {place}: executing {go_quote(self.name)} at <{node.source}>: {message}"
        )

    def walk(self, nodes: Sequence[Node], dot: Any) -> None:
        for node in nodes:
            if node.kind == "text":
                self.parts.append(node.value)
            elif node.kind == "action":
                assert node.pipe is not None
                value = self.pipe(node.pipe, dot)
                if not node.pipe.names:
                    self.parts.append(go_format(value))
            elif node.kind == "range":
                self.range(node, dot)
            elif node.kind == "template":
                self.include(node, dot)
            elif node.kind == "break":
                raise _Break
            elif node.kind == "continue":
                raise _Continue
            else:
                self.branch(node, dot)

    def include(self, node: Node, dot: Any) -> None:
        """Another template in this place; of our variables it sees none."""
        body = self.template.named.get(node.value)
        if body is None:
            raise self.fail(node, f"template {go_quote(node.value)} not defined")
        if self.depth >= _DEPTH_MAX:
            raise self.fail(node, "exceeded maximum template depth (100000)")
        inner = None if node.pipe is None else self.pipe(node.pipe, dot)
        outside = self.variables, self.name
        self.variables, self.name, self.depth = [("$", inner)], node.value, self.depth + 1
        self.walk(body, inner)
        (self.variables, self.name), self.depth = outside, self.depth - 1

    def branch(self, node: Node, dot: Any) -> None:
        assert node.pipe is not None
        mark = len(self.variables)
        value = self.pipe(node.pipe, dot)
        if is_true(value):
            self.walk(node.children, value if node.kind == "with" else dot)
        else:
            self.walk(node.other, dot)
        del self.variables[mark:]

    def range(self, node: Node, dot: Any) -> None:
        assert node.pipe is not None
        mark = len(self.variables)
        names, node_pipe = node.pipe.names, node.pipe
        value = self.pipe(node_pipe, dot, declare=False)
        pairs: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            pairs = [(key, value[key]) for key in sorted(value, key=str)]
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(number, number) for number in range(value)]
        elif value is None or value is NO_VALUE:
            pairs = []
        else:
            raise self.fail(node_pipe, f"range can't iterate over {go_format(value)}")
        if not pairs:
            self.walk(node.other, dot)
        for key, item in pairs:
            if len(names) == 1:
                self.variables.append((names[0], item))
            elif names:
                self.variables += [(names[0], key), (names[1], item)]
            try:
                self.walk(node.children, item)
            except _Break:
                break
            except _Continue:
                continue
            finally:
                del self.variables[mark:]

    def pipe(self, pipe: Node, dot: Any, *, declare: bool = True) -> Any:
        value: Any = NO_VALUE
        for number, command in enumerate(pipe.children):
            value = self.command(command, dot, (value,) if number else ())
        if declare:
            for name in pipe.names:
                if pipe.assign:
                    self.assign(name, value)
                else:
                    self.variables.append((name, value))
        return value

    def assign(self, name: str, value: Any) -> None:
        for number in range(len(self.variables) - 1, -1, -1):
            if self.variables[number][0] == name:
                self.variables[number] = (name, value)
                return

    def command(self, command: Node, dot: Any, final: tuple[Any, ...]) -> Any:
        first, arguments = command.children[0], command.children[1:]
        if first.kind == "function":
            return self.call_function(command, first, arguments, dot, final)
        if first.kind in ("field", "variable", "chain"):
            return self.operand(first, dot, arguments, final)
        if arguments or final:
            raise self.fail(first, f"can't give argument to non-function {first.source}")
        return self.operand(first, dot)

    def operand(
        self,
        node: Node,
        dot: Any,
        arguments: Sequence[Node] = (),
        final: tuple[Any, ...] = (),
    ) -> Any:
        if node.kind == "const":
            return node.value
        if node.kind == "dot":
            return dot
        if node.kind == "nil":
            raise self.fail(node, "nil is not a command")
        if node.kind == "pipe":
            return self.pipe(node, dot)
        if node.kind == "function":
            return self.call_function(node, node, (), dot, ())
        if node.kind == "field":
            return self.fields(node, dot, node.names, dot, arguments, final)
        if node.kind == "variable":
            value = self.variable(node.names[0])
            if len(node.names) == 1:
                if arguments or final:
                    raise self.fail(node, f"can't give argument to non-function {node.source}")
                return value
            return self.fields(node, value, node.names[1:], dot, arguments, final)
        assert node.kind == "chain"
        assert node.base is not None
        base = self.operand(node.base, dot)
        return self.fields(node, base, node.names, dot, arguments, final)

    def variable(self, name: str) -> Any:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise AssertionError(f"the parser let {name} through")

    def fields(
        self,
        node: Node,
        value: Any,
        names: Sequence[str],
        dot: Any,
        arguments: Sequence[Node],
        final: tuple[Any, ...],
    ) -> Any:
        for name in names[:-1]:
            value = self.field(node, value, name)
            if callable(value):
                value = value()
        value = self.field(node, value, names[-1])
        if callable(value):
            values = [self.operand(argument, dot) for argument in arguments]
            return self.invoke(node, names[-1], value, [*values, *final])
        if arguments or final:
            raise self.fail(node, f"{names[-1]} is not a method but has arguments")
        return value

    def field(self, node: Node, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            if name in value:
                return value[name]
            if isinstance(value, GoMap):
                return NO_VALUE
            if value is self.root and self.type_name:
                raise self.fail(node, f"can't evaluate field {name} in type {self.type_name}")
            raise self.fail(node, f"map has no entry for key {go_quote(name)}")
        if value is NO_VALUE:
            return NO_VALUE
        if value is None:
            raise self.fail(node, f"nil pointer evaluating interface {{}}.{name}")
        raise self.fail(node, f"can't evaluate field {name} in type interface {{}}")

    def call_function(
        self,
        node: Node,
        function: Node,
        arguments: Sequence[Node],
        dot: Any,
        final: tuple[Any, ...],
    ) -> Any:
        name = function.value
        if name in ("and", "or"):
            return self.shortcut(node, name, arguments, dot, final)
        if name == "call":
            values = [self.argument(argument, dot) for argument in arguments]
            if not values or not callable(values[0]):
                what = f"{arguments[0].source} of type {type_name(values[0])}" if values else "nil"
                raise self.fail(node, f"error calling call: non-function {what}")
            return self.invoke(node, name, values[0], [*values[1:], *final])
        kinds, repeats = SIGNATURES[name]
        count = len(arguments) + len(final)
        least = len(kinds) - 1 if repeats else len(kinds)
        if count < least or (count > least and not repeats):
            want = f"at least {least}" if repeats else str(least)
            raise self.fail(function, f"wrong number of args for {name}: want {want} got {count}")
        values = []
        for number, argument in enumerate(arguments):
            value = self.argument(argument, dot)
            self.check_kind(argument, value, kinds[min(number, len(kinds) - 1)])
            values.append(value)
        for number, value in enumerate(final, start=len(arguments)):
            self.check_kind(node, value, kinds[min(number, len(kinds) - 1)])
        return self.invoke(node, name, self.functions[name], [*values, *final])

    def check_kind(self, node: Node, value: Any, kind: str) -> None:
        if not kind or kind_of(value) == kind:
            return
        expected = {"slice": "[]string"}.get(kind, kind)
        if value is None or value is NO_VALUE:
            raise self.fail(node, f"invalid value; expected {expected}")
        raise self.fail(node, f"wrong type for value; expected {expected}; got {type_name(value)}")

    def argument(self, node: Node, dot: Any) -> Any:
        return None if node.kind == "nil" else self.operand(node, dot)

    def shortcut(
        self, node: Node, name: str, arguments: Sequence[Node], dot: Any, final: tuple[Any, ...]
    ) -> Any:
        steps: list[Callable[[], Any]] = [
            functools.partial(self.argument, argument, dot) for argument in arguments
        ]
        steps += [functools.partial(lambda value: value, value) for value in final]
        if not steps:
            raise self.fail(node, f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for step in steps:
            value = step()
            if is_true(value) == (name == "or"):
                return value
        return value

    def invoke(
        self, node: Node, name: str, function: Callable[..., Any], values: Sequence[Any]
    ) -> Any:
        try:
            return function(*values)
        except CallError as error:
            raise self.fail(node, f"error calling {name}: {error}") from None
        except TypeError:
            raise self.fail(node, f"wrong number of args for {name}: got {len(values)}") from None
