"""Amounts as people type them and as Docker prints them.

Sizes: `64m` is 64 MiB when read (Docker's flags are binary) but `1.2MB` is decimal when printed
(Docker's tables are decimal). Durations follow Go's time.ParseDuration. Nothing here knows a clock.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from labkit.base.errors import InvalidParameter

__all__ = [
    "format_age",
    "format_binary_size",
    "format_duration",
    "format_size",
    "parse_bytes",
    "parse_cpus",
    "parse_duration_ns",
]

_BYTES = re.compile(r"(\d+(?:\.\d+)*) ?(?:([kmgtp])i?b?|b)?\Z", re.IGNORECASE)
_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_INT64_MAX = (1 << 63) - 1


def parse_bytes(text: str) -> int:
    """Bytes from `512`, `64m`, `1.5g`, `10KiB` (suffixes are powers of 1024).

    Raises InvalidParameter with the sentence of Docker's client.
    """
    match = _BYTES.match(text.strip())
    if match is None or match.group(1).count(".") > 1:
        raise InvalidParameter(f"invalid size: '{text}'")
    factor = _BINARY.get((match.group(2) or "").lower(), 1)
    value = int(Decimal(match.group(1)) * factor)
    if value > _INT64_MAX:
        raise InvalidParameter(f"invalid size: '{text}'")
    return value


def parse_cpus(text: str) -> int:
    """Billionths of a CPU from a decimal such as `1.5`."""
    try:
        nano = Decimal(text) * 1_000_000_000
    except InvalidOperation:
        raise InvalidParameter(f"failed to parse {text} as a rational number") from None
    if not nano.is_finite():
        raise InvalidParameter(f"failed to parse {text} as a rational number")
    if nano != nano.to_integral_value():
        raise InvalidParameter("value is too precise")
    return int(nano)


def parse_duration_ns(text: str) -> int:
    """Nanoseconds from Go's notation: `300ms`, `1h30m`, `-1.5s`, `0`."""
    rest, sign = text, 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    total = Decimal(0)
    position = 0
    while position < len(rest):
        match = _DURATION_PART.match(rest, position)
        if match is None:
            word = "missing unit in" if re.fullmatch(r"[\d.]*\d[\d.]*", rest) else "invalid"
            raise InvalidParameter(f'time: {word} duration "{text}"')
        total += Decimal(match.group(1)) * _UNIT_NS[match.group(2)]
        position = match.end()
    if total > _INT64_MAX:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return sign * int(total)


def _significant(value: float, digits: int) -> str:
    """Go's %.{digits}g for the magnitudes that tables print."""
    return f"{value:.{digits}g}"


def format_size(count: float, *, digits: int = 4) -> str:
    """Decimal units with `digits` significant digits: 4.26MB (Docker's HumanSize)."""
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
    index = 0
    while count >= 1000 and index < len(units) - 1:
        count /= 1000
        index += 1
    return _significant(count, digits) + units[index]


def format_binary_size(count: float) -> str:
    """Binary units with four significant digits: 1.944MiB (Docker's BytesSize)."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
    index = 0
    while count >= 1024 and index < len(units) - 1:
        count /= 1024
        index += 1
    return _significant(count, 4) + units[index]


def format_age(seconds: float) -> str:
    """A length of time in words, as `docker ps` prints it: `About a minute`, `3 hours`."""
    whole = int(seconds)
    minutes = int(seconds / 60)
    hours = round(seconds / 3600)
    steps: tuple[tuple[bool, str], ...] = (
        (whole < 1, "Less than a second"),
        (whole == 1, "1 second"),
        (whole < 60, f"{whole} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    for holds, words in steps:
        if holds:
            return words
    return f"{hours // 24 // 365} years"


def format_duration(nanoseconds: int) -> str:
    """Go's Duration.String: `1h30m0s`, `1.5s`, `250ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if rest >= size:
                return (
                    sign + f"{Decimal(rest) / size:f}".rstrip("0").rstrip(".") + unit
                    if (rest % size)
                    else f"{sign}{rest // size}{unit}"
                )
    seconds_total, fraction = divmod(rest, 1_000_000_000)
    minutes_total, seconds = divmod(seconds_total, 60)
    hours, minutes = divmod(minutes_total, 60)
    tail = str(seconds)
    if fraction:
        tail += "." + f"{fraction:09d}".rstrip("0")
    if hours:
        return f"{sign}{hours}h{minutes}m{tail}s"
    if minutes:
        return f"{sign}{minutes}m{tail}s"
    return f"{sign}{tail}s"
