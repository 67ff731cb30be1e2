"""What is typed behind a chaos action: 200ms, 30%, 5s."""

from __future__ import annotations

import re

from labkit.base.errors import InvalidParameter

__all__ = ["milliseconds", "share"]

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m)?\Z")
_PERCENT = re.compile(r"([+-]?[0-9]+(?:\.[0-9]+)?)\s*%?\Z")
_FACTORS = {"ms": 1.0, "s": 1000.0, "m": 60_000.0, None: 1.0}


def milliseconds(text: str, *, what: str, most: float = 60_000.0) -> float:
    """`200ms`, `1.5s`, `1m`; a number alone is milliseconds. Raises InvalidParameter."""
    match = _DURATION.match(text.strip())
    if match is None:
        raise InvalidParameter(f"{what}: {text!r} is no duration", hint="for example 200ms or 5s")
    found = float(match.group(1)) * _FACTORS[match.group(2)]
    if found > most:
        raise InvalidParameter(f"{what}: {text} is more than {most / 1000:g} s")
    return found


def share(text: str, *, what: str, least: float = 0.0, most: float = 1.0) -> float:
    """`30%` or `30` as 0.3. Raises InvalidParameter."""
    match = _PERCENT.match(text.strip())
    if match is None:
        raise InvalidParameter(f"{what}: {text!r} is no share", hint="for example 30%")
    found = float(match.group(1)) / 100
    if not least <= found <= most:
        raise InvalidParameter(
            f"{what}: {text} is not between {least * 100:g}% and {most * 100:g}%"
        )
    return found
