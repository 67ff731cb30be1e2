"""How Go spells values: quoted strings, numbers in messages, booleans that people type."""

from __future__ import annotations

import re

__all__ = ["go_quote", "go_quote_rune", "go_rune", "parse_bool", "parse_int", "parse_uint"]

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)\Z"
)


def _escaped(text: str, quote: str) -> str:
    parts = []
    for character in text:
        if character == quote or (character in _ESCAPES and character != '"'):
            parts.append(_ESCAPES.get(character, "\\" + character))
        elif character.isprintable():
            parts.append(character)
        elif ord(character) < 0x80:
            parts.append(f"\\x{ord(character):02x}")
        elif ord(character) < 0x10000:
            parts.append(f"\\u{ord(character):04x}")
        else:
            parts.append(f"\\U{ord(character):08x}")
    return f"{quote}{''.join(parts)}{quote}"


def go_quote(text: str) -> str:
    """`%q` of Go: a double-quoted string literal."""
    return _escaped(text, '"')


def go_rune(value: int) -> str:
    """`%c` of Go: the character, or U+FFFD where Unicode has none of that number."""
    if not 0 <= value <= 0x10FFFF or 0xD800 <= value <= 0xDFFF:
        return "\ufffd"
    return chr(value)


def go_quote_rune(value: int) -> str:
    """`%q` of Go for a number: a character literal between single quotes."""
    return _escaped(go_rune(value), "'")


def parse_bool(text: str) -> bool:
    """strconv.ParseBool; raises ValueError with its message."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {go_quote(text)}: invalid syntax")


def _parse_integer(text: str, function: str, low: int, high: int) -> int:
    if not _INTEGER.match(text) or (low == 0 and text[:1] in "+-"):
        raise ValueError(f"strconv.{function}: parsing {go_quote(text)}: invalid syntax")
    digits = text.replace("_", "")
    sign = digits[:1] if digits[:1] in "+-" else ""
    digits = digits[len(sign) :]
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        value = int(digits, 8)  # Go reads a leading zero as octal
    else:
        value = int(digits, 0)
    value = -value if sign == "-" else value
    if not low <= value <= high:
        raise ValueError(f"strconv.{function}: parsing {go_quote(text)}: value out of range")
    return value


def parse_int(text: str, bits: int = 64) -> int:
    """strconv.ParseInt with base 0; raises ValueError with its message."""
    return _parse_integer(text, "ParseInt", -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def parse_uint(text: str, bits: int = 64) -> int:
    """strconv.ParseUint with base 0; raises ValueError with its message."""
    return _parse_integer(text, "ParseUint", 0, (1 << bits) - 1)
