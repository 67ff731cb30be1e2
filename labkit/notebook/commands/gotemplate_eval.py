"""Evaluating a Go template on plain data, and printing values as Go prints them."""

from __future__ import annotations

import functools
import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from labkit.notebook.commands.gotemplate_parse import Node, Template
from labkit.notebook.commands.gotext import go_quote

__all__ = ["NO_VALUE", "Evaluator", "GoMap", "TemplateError", "go_format", "go_json", "is_true"]


class TemplateError(Exception):
    """Evaluation failed; the text is Go's."""


class GoMap(dict[str, Any]):
    """A dictionary that is a map for Go: a missing key is `<no value>`, not an error."""


class _NoValue:
    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE = _NoValue()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _CallError(Exception):
    """A function refused its arguments."""


# -- printing ------------------------------------------------------------------------------


def go_format(value: Any, *, nested: bool = False) -> str:
    """`%v`: how Go prints a value inside text."""
    if value is NO_VALUE or (value is None and not nested):
        return "<no value>"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, Mapping):
        inner = " ".join(
            f"{key}:{go_format(value[key], nested=True)}" for key in sorted(value, key=str)
        )
        return f"map[{inner}]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(go_format(item, nested=True) for item in value) + "]"
    return str(value)


def _format_float(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        sign = "-" if exponent.startswith("-") else "+"
        return f"{mantissa}e{sign}{exponent.lstrip('+-').zfill(2)}"
    return text


def go_json(value: Any) -> str:
    """encoding/json without HTML escaping, as Docker's `json` function writes it."""
    if value is NO_VALUE:
        return "null"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def is_true(value: Any) -> bool:
    """What `if` takes for true: anything but the zero value of its type."""
    if value is NO_VALUE or value is None:
        return False
    if isinstance(value, bool | int | float | str | list | tuple | Mapping):
        return bool(value)
    return True


# -- functions -----------------------------------------------------------------------------


def _kind(value: Any) -> str:
    for name, types in (
        ("bool", bool),
        ("int", int),
        ("float", float),
        ("string", str),
        ("slice", list | tuple),
        ("map", Mapping),
    ):
        if isinstance(value, types):
            return name
    return "invalid"


def _equal(left: Any, *rest: Any) -> bool:
    if not rest:
        raise _CallError("missing argument for comparison")
    for right in rest:
        if None not in (left, right) and NO_VALUE not in (left, right):
            if {_kind(left), _kind(right)} & {"slice", "map"}:
                raise _CallError("non-comparable type")
            if _kind(left) != _kind(right):
                raise _CallError("incompatible types for comparison")
        if left == right:
            return True
    return False


def _less(left: Any, right: Any) -> bool:
    if _kind(left) != _kind(right):
        raise _CallError("incompatible types for comparison")
    if _kind(left) in ("bool", "slice", "map", "invalid"):
        raise _CallError("invalid type for comparison")
    return bool(left < right)


def _index(item: Any, *keys: Any) -> Any:
    if item is NO_VALUE or item is None:
        raise _CallError("index of untyped nil")
    for key in keys:
        if isinstance(item, Mapping):
            if isinstance(key, bool) or not isinstance(key, str):
                raise _CallError(f"value has type {_type_name(key)}; should be string")
            item = item[key] if key in item else _zero_of(item)
        elif isinstance(item, list | tuple | str):
            if isinstance(key, bool) or not isinstance(key, int):
                raise _CallError(f"cannot index slice/array with type {_type_name(key)}")
            if not 0 <= key < len(item):
                raise _CallError(f"index out of range: {key}")
            item = ord(item[key]) if isinstance(item, str) else item[key]
        elif item is NO_VALUE or item is None:
            raise _CallError("index of nil pointer")
        else:
            raise _CallError(f"can't index item of type {_type_name(item)}")
    return item


def _zero_of(mapping: Mapping[str, Any]) -> Any:
    """What index gives for a missing key: "" in a map of strings."""
    if isinstance(mapping, GoMap) and all(isinstance(value, str) for value in mapping.values()):
        return ""
    return NO_VALUE


def _type_name(value: Any) -> str:
    names = {"bool": "bool", "int": "int", "float": "float64", "string": "string"}
    return {**names, "slice": "[]interface {}", "map": "map[string]interface {}"}.get(
        _kind(value), "nil"
    )


def _slice(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, list | tuple | str):
        raise _CallError(f"can't slice item of type {_type_name(item)}")
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(item)
    for bound in (low, high):
        if not isinstance(bound, int):
            raise _CallError(f"cannot index slice/array with type {_type_name(bound)}")
        if not 0 <= bound <= len(item):
            raise _CallError(f"index out of range: {bound}")
    if low > high:
        raise _CallError(f"invalid slice index: {low} > {high}")
    return item[low:high]


def _length(item: Any) -> int:
    if isinstance(item, str):
        return len(item.encode())
    if isinstance(item, list | tuple | Mapping):
        return len(item)
    if item is None or item is NO_VALUE:
        raise _CallError("len of nil pointer")
    raise _CallError(f"len of type {_type_name(item)}")


def _printf(template: Any, *values: Any) -> str:
    from labkit.notebook.commands.goprintf import sprintf

    return sprintf(_text(template), values)


def _print(*values: Any) -> str:
    """Sprint: blanks between neighbours when neither is a string."""
    text = ""
    for number, value in enumerate(values):
        both = number and not isinstance(value, str) and not isinstance(values[number - 1], str)
        text += (" " if both else "") + go_format(value, nested=True)
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _CallError(f"wrong type for value; expected string; got {_type_name(value)}")
    return value


def _join(items: Any, separator: Any) -> str:
    if isinstance(items, str) or not isinstance(items, list | tuple):
        raise _CallError(f"wrong type for value; expected []string; got {_type_name(items)}")
    return _text(separator).join(_text(item) for item in items)


def _pad(text: Any, before: Any, after: Any) -> str:
    text = _text(text)
    return " " * before + text + " " * after if text else text


def _truncate(text: Any, length: Any) -> str:
    shortened: str = _text(text)[:length]
    return shortened


def _title(text: Any) -> str:
    result, start = [], True
    for character in _text(text):
        result.append(character.title() if start else character)
        start = character.isspace()
    return "".join(result)


def _escape_js(text: str) -> str:
    table = {
        "'": "\\'",
        '"': '\\"',
        "\\": "\\\\",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        **{character: f"\\u{ord(character):04X}" for character in "<>&="},
    }
    return "".join(str(table.get(character, character)) for character in text)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "not": lambda value: not is_true(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(go_format(v, nested=True) for v in values) + "\n",
    "printf": _printf,
    "html": lambda *values: (
        html.escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    ),
    "js": lambda *values: _escape_js(_print(*values)),
    "urlquery": lambda *values: quote_plus(_print(*values)),
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "lt": _less,
    "le": lambda left, right: _equal(left, right) or _less(left, right),
    "gt": lambda left, right: not (_equal(left, right) or _less(left, right)),
    "ge": lambda left, right: not _less(left, right),
    "json": go_json,
    "split": lambda text, separator: (
        _text(text).split(_text(separator)) if separator else list(text)
    ),
    "join": _join,
    "title": _title,
    "lower": lambda text: _text(text).lower(),
    "upper": lambda text: _text(text).upper(),
    "pad": _pad,
    "truncate": _truncate,
}


# -- evaluation ----------------------------------------------------------------------------


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

    def run(self, data: Any) -> str:
        """The text; raises TemplateError."""
        self.parts = []
        self.root = data
        self.variables = [("$", data)]
        self.walk(self.template.body, data)
        return "".join(self.parts)

    def fail(self, node: Node, message: str) -> TemplateError:
        place = self.template.place(node.position)
        return TemplateError(f'template: {place}: executing "" at <{node.source}>: {message}')

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
            elif node.kind == "break":
                raise _Break
            elif node.kind == "continue":
                raise _Continue
            else:
                self.branch(node, dot)

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
            return self.call_function(first, arguments, dot, final)
        if first.kind in ("field", "variable", "chain"):
            return self.operand(first, dot, arguments, final, command)
        if arguments or final:
            raise self.fail(first, f"can't give argument to non-function {first.source}")
        return self.operand(first, dot)

    def operand(
        self,
        node: Node,
        dot: Any,
        arguments: Sequence[Node] = (),
        final: tuple[Any, ...] = (),
        command: Node | None = None,
    ) -> Any:
        del command
        if node.kind == "const":
            return node.value
        if node.kind == "dot":
            return dot
        if node.kind == "nil":
            raise self.fail(node, "nil is not a command")
        if node.kind == "pipe":
            return self.pipe(node, dot)
        if node.kind == "function":
            return self.call_function(node, (), dot, ())
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
        if value is None or value is NO_VALUE:
            raise self.fail(node, f"nil pointer evaluating interface {{}}.{name}")
        raise self.fail(node, f"can't evaluate field {name} in type {_type_name(value)}")

    def call_function(
        self, node: Node, arguments: Sequence[Node], dot: Any, final: tuple[Any, ...]
    ) -> Any:
        name = node.value
        if name in ("and", "or"):
            return self.shortcut(node, arguments, dot, final)
        values = [self.argument(argument, dot) for argument in arguments]
        if name == "call":
            if not values or not callable(values[0]):
                raise self.fail(node, "error calling call: call of non-function")
            return self.invoke(node, name, values[0], [*values[1:], *final])
        return self.invoke(node, name, self.functions[name], [*values, *final])

    def argument(self, node: Node, dot: Any) -> Any:
        return None if node.kind == "nil" else self.operand(node, dot)

    def shortcut(
        self, node: Node, arguments: Sequence[Node], dot: Any, final: tuple[Any, ...]
    ) -> Any:
        steps: list[Callable[[], Any]] = [
            functools.partial(self.argument, argument, dot) for argument in arguments
        ]
        steps += [functools.partial(lambda value: value, value) for value in final]
        if not steps:
            raise self.fail(node, f"wrong number of args for {node.value}: want at least 1 got 0")
        value: Any = None
        for step in steps:
            value = step()
            if is_true(value) == (node.value == "or"):
                return value
        return value

    def invoke(
        self, node: Node, name: str, function: Callable[..., Any], values: Sequence[Any]
    ) -> Any:
        try:
            return function(*values)
        except _CallError as error:
            raise self.fail(node, f"error calling {name}: {error}") from None
        except TypeError:
            raise self.fail(
                node, f"wrong number of args for {name}: want {_arity(function)} got {len(values)}"
            ) from None


def _arity(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return "at least 1"
    count = code.co_argcount
    return f"at least {count}" if code.co_flags & 0x04 else str(count)
