"""Go's fmt.Sprintf for the values that templates know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from labkit.notebook.commands.gotext import go_quote

__all__ = ["sprintf"]

_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?(\[\d+\])?(.)", re.DOTALL)


def sprintf(template: str, values: Sequence[Any]) -> str:
    """The text; mismatches are spelt into it as Go spells them (`%!d(string=x)`)."""
    rest = list(values)
    used_index = False

    def take(match: re.Match[str]) -> str:
        nonlocal used_index
        flags, width_text, precision_text, explicit, verb = match.groups()
        if verb == "%":
            return "%"
        width = int(rest.pop(0)) if width_text == "*" else int(width_text or 0)
        has_precision = "." in match.group(0)[: -len(verb)]
        precision: int | None = None
        if has_precision:
            precision = int(rest.pop(0)) if precision_text == "*" else int(precision_text or 0)
        if explicit:
            used_index = True
            number = int(explicit[1:-1]) - 1
            if not 0 <= number < len(values):
                return f"%!{verb}(BADINDEX)"
            value = values[number]
        elif not rest:
            return f"%!{verb}(MISSING)"
        else:
            value = rest.pop(0)
        text = _verb(value, verb, flags, precision)
        if "-" in flags:
            return text.ljust(width)
        if "0" in flags and verb in "dxXobeEfFgGt" and not isinstance(value, str):
            sign = text[:1] if text[:1] in "+-" else ""
            return sign + text[len(sign) :].rjust(width - len(sign), "0")
        return text.rjust(width)

    text = _VERB.sub(take, template)
    if text.endswith("%") and template.endswith("%") and not template.endswith("%%"):
        text = text[:-1] + "%!(NOVERB)"
    if rest and not used_index:
        extra = ", ".join(f"{_type(value)}={_plain(value)}" for value in rest)
        text += f"%!(EXTRA {extra})"
    return text


def _plain(value: Any) -> str:
    from labkit.notebook.commands.gotemplate_functions import go_format

    return go_format(value, nested=True)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        return "map[string]interface {}"
    names = {int: "int", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "string")


def _bad(verb: str, value: Any) -> str:
    return f"%!{verb}({_type(value)}={_plain(value)})"


def _integer(value: int, verb: str, flags: str) -> str:
    digits = {"d": "d", "x": "x", "X": "X", "o": "o", "b": "b"}[verb]
    text = format(abs(value), digits)
    if "#" in flags:
        text = {"x": "0x", "X": "0X", "o": "0", "b": "0b", "d": ""}[verb] + text
    return ("-" if value < 0 else "+" if "+" in flags else " " if " " in flags else "") + text


def _string(value: str, verb: str, flags: str, precision: int | None) -> str:
    if precision is not None:
        value = value[:precision]
    if verb == "q":
        return f"`{value}`" if "#" in flags and "`" not in value else go_quote(value)
    if verb in "xX":
        text = value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb == "v" and "#" in flags:
        return go_quote(value)
    return value


def _float(value: float, verb: str, flags: str, precision: int | None) -> str:
    if verb == "v" or (verb in "gG" and precision is None):
        return _plain(value)
    digits = 6 if precision is None else precision
    text = format(value, f".{digits}{'f' if verb == 'F' else verb}")
    return ("+" if "+" in flags and value >= 0 else "") + text


def _verb(value: Any, verb: str, flags: str, precision: int | None) -> str:
    if verb == "T":
        return _type(value)
    if verb == "v" and not isinstance(value, str | float):
        return _plain(value)
    if isinstance(value, bool):
        return _plain(value) if verb == "t" else _bad(verb, value)
    if isinstance(value, int):
        if verb in "dxXob":
            return _integer(value, verb, flags)
        if verb == "c":
            return chr(value)
        if verb == "q":
            return f"'{chr(value)}'"
        if verb == "U":
            return f"U+{value:04X}"
        return _bad(verb, value)
    if isinstance(value, float):
        return _float(value, verb, flags, precision) if verb in "eEfFgGv" else _bad(verb, value)
    if isinstance(value, str):
        return _string(value, verb, flags, precision) if verb in "svqxX" else _bad(verb, value)
    if isinstance(value, list | tuple):
        return "[" + " ".join(_verb(item, verb, flags, precision) for item in value) + "]"
    if value is None:
        return f"%!{verb}(<nil>)"
    return _plain(value)
