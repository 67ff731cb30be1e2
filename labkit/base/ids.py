"""Identifiers as Docker shows them: 64 lower-case hexadecimal digits, 12 of them printed."""

from __future__ import annotations

import re
import secrets

__all__ = ["SHORT_ID_LENGTH", "is_id_prefix", "new_id", "short_id"]

SHORT_ID_LENGTH = 12
_HEX = re.compile(r"[0-9a-f]{1,64}\Z")


def new_id() -> str:
    """A fresh random 256-bit identifier, as 64 hexadecimal digits.

    The first twelve digits are never all decimal: a host name made of digits alone would be
    taken for a number by some resolvers, which is why Docker redraws such ids as well.
    """
    while True:
        identifier = secrets.token_hex(32)
        if not identifier[:SHORT_ID_LENGTH].isdecimal():
            return identifier


def short_id(identifier: str) -> str:
    """The twelve digits that tables show; a `sha256:` prefix is dropped first."""
    return identifier.removeprefix("sha256:")[:SHORT_ID_LENGTH]


def is_id_prefix(text: str) -> bool:
    """Whether `text` could be the beginning of an identifier."""
    return _HEX.match(text) is not None
