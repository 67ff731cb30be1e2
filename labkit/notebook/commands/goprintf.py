"""Go's fmt.Sprintf for the values that templates know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from labkit.notebook.commands.gotext import go_quote, go_quote_rune, go_rune

__all__ = ["sprintf"]

_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?(\[\d+\])?(.)", re.DOTALL)
_NUMBER_MAX = 1_000_000  # fmt's tooLarge: a width or precision beyond it is a mistake


def sprintf(template: str, values: Sequence[Any]) -> str:
    """The text; mismatches are spelt into it as Go spells them (`%!d(string=x)`)."""
    arguments = _Arguments(values)
    parts = []
    position = 0
    while position < len(template):
        match = _VERB.match(template, position)
        if match is not None:
            parts.append(_formatted(match, arguments))
            position = match.end()
        elif template[position] == "%":  # nothing that could be a verb follows
            parts.append("%!(NOVERB)")
            break
        else:
            following = template.find("%", position)
            following = len(template) if following < 0 else following
            parts.append(template[position:following])
            position = following
    return "".join(parts) + arguments.extra()


class _Arguments:
    """The operands, taken in order or by `[n]`."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._next = 0
        self._reordered = False

    def jump(self, explicit: str | None) -> bool:
        """Go on from the `[n]`th operand; False where there is none."""
        if explicit is None:
            return True
        self._reordered = True
        number = int(explicit[1:-1]) - 1
        if not 0 <= number < len(self._values):
            return False
        self._next = number
        return True

    def take(self) -> tuple[bool, Any]:
        """Whether there is another operand, and it."""
        if self._next >= len(self._values):
            return False, None
        self._next += 1
        return True, self._values[self._next - 1]

    def number(self) -> int | None:
        """An operand for `*`: None where it is no number or Go finds it too large."""
        _, value = self.take()
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole and abs(value) <= _NUMBER_MAX else None

    def extra(self) -> str:
        rest = self._values[self._next :]
        if not rest or self._reordered:
            return ""
        return f"%!(EXTRA {', '.join(f'{_type(value)}={_plain(value)}' for value in rest)})"


def _formatted(match: re.Match[str], arguments: _Arguments) -> str:
    flags, width_text, precision_text, explicit, verb = match.groups()
    if any(len(digits) > 6 for digits in (width_text or "", precision_text or "")):
        return "%!(NOVERB)"  # fmt gives up on such a number and on what follows it
    said = ""
    width = arguments.number() if width_text == "*" else int(width_text or 0)
    if width is None:
        said += "%!(BADWIDTH)"
        width = 0
    elif width < 0:
        flags, width = flags + "-", -width
    precision: int | None = None
    if "." in match.group(0)[: -len(verb)]:
        precision = arguments.number() if precision_text == "*" else int(precision_text or 0)
        if precision is None or precision < 0:
            said += "%!(BADPREC)"
            precision = None
    if verb == "%":
        return said + "%"
    if not arguments.jump(explicit):
        return f"{said}%!{verb}(BADINDEX)"
    there, value = arguments.take()
    if not there:
        return f"{said}%!{verb}(MISSING)"
    return said + _padded(_verb(value, verb, flags, precision), value, verb, flags, width)


def _padded(text: str, value: Any, verb: str, flags: str, width: int) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb in "dxXobeEfFgGt" and not isinstance(value, str):
        sign = text[:1] if text[:1] in ("+", "-") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


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
            return go_rune(value)
        if verb == "q":
            return go_quote_rune(value)
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
