"""Times as Docker's JSON shows them: RFC 3339 in UTC with nanoseconds."""

from __future__ import annotations

import time

__all__ = ["NEVER", "format_time", "format_time_fixed"]

NEVER = "0001-01-01T00:00:00Z"


def format_time(at_ns: int) -> str:
    """Go's RFC3339Nano: trailing zeros of the fraction are dropped; 0 is Go's zero time."""
    if not at_ns:
        return NEVER
    seconds, fraction = divmod(at_ns, 1_000_000_000)
    base = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{base}{digits}Z"


def format_time_fixed(at_ns: int) -> str:
    """Always nine digits of fraction, as `logs -t` prints."""
    seconds, fraction = divmod(at_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"
