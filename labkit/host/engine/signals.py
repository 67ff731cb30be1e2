"""Signals by name or number, as `kill`, `stop` and STOPSIGNAL take them."""

from __future__ import annotations

import signal

from labkit.base.errors import InvalidParameter

__all__ = ["parse_signal"]

_HIGHEST = 64


def parse_signal(text: str) -> int:
    """`TERM`, `SIGTERM`, `15`, `RTMIN+3`; InvalidParameter with Docker's sentence otherwise."""
    word = text.strip()
    if word.isdecimal():
        number = int(word)
        if 0 < number <= _HIGHEST:
            return number
        raise InvalidParameter(f"invalid signal: {text}")
    name = word.upper().removeprefix("SIG")
    base, sign, offset = name, 0, ""
    for mark, direction in (("+", 1), ("-", -1)):
        if mark in name:
            base, _, offset = name.partition(mark)
            sign = direction
    if base in ("RTMIN", "RTMAX") and (not sign or offset.isdecimal()):
        number = int(getattr(signal, f"SIG{base}")) + sign * int(offset or 0)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    elif name.isalnum() and isinstance(getattr(signal, f"SIG{name}", None), signal.Signals):
        return int(getattr(signal, f"SIG{name}"))
    raise InvalidParameter(
        f"invalid signal: {text}", hint="a name such as TERM or KILL, or a number from 1 to 64"
    )
