"""The functions a template can call, and how Go prints the values they meet."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

__all__ = [
    "FUNCTIONS",
    "NO_VALUE",
    "SIGNATURES",
    "CallError",
    "GoMap",
    "GoNil",
    "GoNilMap",
    "GoStruct",
    "go_format",
    "go_json",
    "is_true",
    "kind_of",
    "type_name",
]


class GoMap(dict[str, Any]):
    """A dictionary that is a map for Go: a missing key is `<no value>`, not an error."""


class GoNilMap(GoMap):
    """A map that is nil for Go: it prints as `map[]` and is null in JSON."""


class GoStruct(dict[str, Any]):
    """A dictionary that is a struct for Go: it prints as its values in their order.

    `layout` gives all fields with their empty values, for JSON leaves empty ones out.
    """

    def __init__(self, items: Mapping[str, Any], layout: Mapping[str, Any] | None = None) -> None:
        super().__init__(items)
        self.layout = layout or {}


class GoNil(list[Any]):
    """A list that is nil for Go: it prints as `[]` and is null in JSON."""


class _NoValue:
    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE = _NoValue()


class CallError(Exception):
    """A function refused its arguments; the text is Go's."""


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
    if isinstance(value, GoStruct):
        shown = {**value.layout, **value}
        return "{" + " ".join(go_format(item, nested=True) for item in shown.values()) + "}"
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
    return json.dumps(_without_nil(value), separators=(",", ":"), ensure_ascii=False, default=str)


def _without_nil(value: Any) -> Any:
    if value is NO_VALUE or isinstance(value, GoNil | GoNilMap):
        return None
    if isinstance(value, Mapping):
        # Go writes a struct's fields as they are declared, and a map's keys sorted.
        keys = sorted(value, key=str) if isinstance(value, GoMap) else value
        return {key: _without_nil(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_without_nil(item) for item in value]
    return value


def is_true(value: Any) -> bool:
    """What `if` takes for true: anything but the zero value of its type."""
    if value is NO_VALUE or value is None:
        return False
    if isinstance(value, bool | int | float | str | list | tuple | Mapping):
        return bool(value)
    return True


def kind_of(value: Any) -> str:
    """The family of Go types that a value belongs to."""
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
        raise CallError("missing argument for comparison")
    for right in rest:
        if None not in (left, right) and NO_VALUE not in (left, right):
            if {kind_of(left), kind_of(right)} & {"slice", "map"}:
                raise CallError("non-comparable type")
            if kind_of(left) != kind_of(right):
                raise CallError("incompatible types for comparison")
        if left == right:
            return True
    return False


def _less(left: Any, right: Any) -> bool:
    if kind_of(left) != kind_of(right):
        raise CallError("incompatible types for comparison")
    if kind_of(left) in ("bool", "slice", "map", "invalid"):
        raise CallError("invalid type for comparison")
    return bool(left < right)


def _index(item: Any, *keys: Any) -> Any:
    if item is NO_VALUE or item is None or isinstance(item, GoNil):
        raise CallError("index of untyped nil")
    for key in keys:
        if isinstance(item, Mapping):
            if isinstance(key, bool) or not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            item = item[key] if key in item else _zero_of(item)
        elif isinstance(item, list | tuple | str):
            if isinstance(key, bool) or not isinstance(key, int):
                raise CallError(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(item):
                raise CallError(f"index out of range: {key}")
            item = ord(item[key]) if isinstance(item, str) else item[key]
        elif item is NO_VALUE or item is None:
            raise CallError("index of nil pointer")
        else:
            raise CallError(f"can't index item of type {type_name(item)}")
    return item


def _zero_of(mapping: Mapping[str, Any]) -> Any:
    """What index gives for a missing key: "" in a map of strings."""
    if isinstance(mapping, GoMap) and all(isinstance(value, str) for value in mapping.values()):
        return ""
    return NO_VALUE


def type_name(value: Any) -> str:
    """What Go calls the type of a value that came from JSON."""
    # Numbers come from JSON, which Docker's client keeps as text.
    names = {"bool": "bool", "int": "json.Number", "float": "json.Number", "string": "string"}
    return {**names, "slice": "[]interface {}", "map": "map[string]interface {}"}.get(
        kind_of(value), "nil"
    )


def _slice(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, list | tuple | str):
        raise CallError(f"can't slice item of type {type_name(item)}")
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(item)
    for bound in (low, high):
        if not isinstance(bound, int):
            raise CallError(f"cannot index slice/array with type {type_name(bound)}")
        if not 0 <= bound <= len(item):
            raise CallError(f"index out of range: {bound}")
    if low > high:
        raise CallError(f"invalid slice index: {low} > {high}")
    return item[low:high]


def _length(item: Any) -> int:
    if isinstance(item, str):
        return len(item.encode())
    if isinstance(item, list | tuple | Mapping):
        return len(item)
    if item is None or item is NO_VALUE:
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {type_name(item)}")


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
        raise CallError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _join(items: Any, separator: Any) -> str:
    if isinstance(items, str) or not isinstance(items, list | tuple):
        raise CallError(f"wrong type for value; expected []string; got {type_name(items)}")
    return _text(separator).join(_text(item) for item in items)


def _pad(text: Any, before: int, after: int) -> str:
    inner = _text(text)
    return " " * before + inner + " " * after if inner else inner


def _truncate(text: Any, length: int) -> str:
    return _text(text)[:length]


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
    return "".join(table.get(character, character) for character in text)


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


# Kinds of the parameters ("" takes anything), and whether the last may be repeated or left out.
SIGNATURES: dict[str, tuple[tuple[str, ...], bool]] = {
    **dict.fromkeys(("not", "len", "json"), (("",), False)),
    **dict.fromkeys(("index", "slice", "eq"), (("", ""), True)),
    **dict.fromkeys(("ne", "lt", "le", "gt", "ge"), (("", ""), False)),
    **dict.fromkeys(("print", "println", "html", "js", "urlquery"), (("",), True)),
    **dict.fromkeys(("title", "lower", "upper"), (("string",), False)),
    "printf": (("string", ""), True),
    "split": (("string", "string"), False),
    "join": (("slice", "string"), False),
    "pad": (("string", "int", "int"), False),
    "truncate": (("string", "int"), False),
}
