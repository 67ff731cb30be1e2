"""Fields of tar headers: text, octal and base-256 numbers, pax records and times."""

from __future__ import annotations

from typing import Final

from labkit.base.errors import InvalidParameter

__all__ = [
    "broken",
    "checked_size",
    "decimal",
    "number_field",
    "parse_pax",
    "pax_time_ns",
    "text_field",
]

_MAX_INT: Final = (1 << 63) - 1


def broken(reason: str) -> InvalidParameter:
    return InvalidParameter(f"cannot read the layer archive: {reason}")


def text_field(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def number_field(field: bytes, what: str) -> int:
    """An octal number, or GNU's base-256 form when the first bit is set."""
    if field[:1] >= b"\x80":
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    digits = digits.split(b"\0", 1)[0].rstrip(b" ")
    if not digits.isdigit():  # int() would take signs, blanks and underscores as well
        raise broken(f"{what} is not a number")
    try:
        return int(digits, 8)
    except ValueError:
        raise broken(f"{what} is not a number") from None


def checked_size(value: int, what: str) -> int:
    if not 0 <= value <= _MAX_INT:
        raise broken(f"{what} is {value}")
    return value


def decimal(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise broken(f"{what} is not a number")
    return checked_size(int(text), what)


def pax_time_ns(text: str) -> int:
    """A pax time such as `1700000000.25` or `-1.5` in nanoseconds, without floating point."""
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("-").partition(".")
    if not (whole or fraction) or not (whole + fraction).isascii():
        raise broken("a time is not a number")
    if not (whole + fraction).isdecimal() or len(whole) > 20:
        raise broken("a time is not a number")
    return sign * (int(whole or "0") * 1_000_000_000 + int((fraction + "0" * 9)[:9]))


def parse_pax(data: bytes) -> dict[str, bytes]:
    """Records `LENGTH KEY=VALUE\\n` of an extended header; later ones win."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 20)
        digits = data[position:blank] if blank > 0 else b""
        if not digits.isdigit():
            raise broken("a pax record has no length")
        end = position + int(digits)
        record = data[blank + 1 : end]
        if end > len(data) or end <= blank or record[-1:] != b"\n":
            raise broken("a pax record has the wrong length")
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not key:
            raise broken("a pax record has no key")
        records[key.decode("utf-8", "surrogateescape")] = value
        position = end
    return records
