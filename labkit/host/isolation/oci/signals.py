"""Signals by name or number, as `kill` takes them."""

from __future__ import annotations

import signal

from labkit.base.errors import InvalidParameter

__all__ = ["signal_number"]


def signal_number(text: str) -> int:
    """`9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`; 0 asks whether it lives.

    Raises InvalidParameter in runc's words.
    """
    if text.isdecimal():
        if int(text) <= signal.SIGRTMAX:
            return int(text)
        raise InvalidParameter(f'unknown signal "{text}"')
    name, plus, offset = text.upper().removeprefix("SIG").partition("+")
    try:
        number = int(signal.Signals[f"SIG{name}"]) + (int(offset) if plus else 0)
    except (KeyError, ValueError):
        raise InvalidParameter(f'unknown signal "{text}"') from None
    return number
