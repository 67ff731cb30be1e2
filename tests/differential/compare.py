"""What counts as the same: output without what differs between any two runs; shapes of JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["columns", "plain", "shape"]

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), word)
    for pattern, word in (
        (r"sha256:[0-9a-f]{12,64}", "<digest>"),
        (r"\b[0-9a-f]{64}\b", "<id>"),
        (r"\b[0-9a-f]{12}\b", "<id>"),
        (r"\b(?:Less than a second|About an? \w+|\d+ (?:second|minute|hour|day|week|month)s?)\b",
         "<age>"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d(?: \w+)?)", "<time>"),
        (r"\b\d+(?:\.\d+)?(?:B|kB|MB|GB|KiB|MiB|GiB)\b", "<size>"),
        (r"/tmp/lkd\w+/(?:labkit|dockerd-files)", "<folder>"),
        (r"\b172\.\d+\.\d+\.\d+\b", "<address>"),
        (r"\b02:42(?::[0-9a-f]{2}){4}\b", "<mac>"),
        (r"^(\w+\s+)\d+\s+\d+\s+\d+(\s+\d\d:\d\d)", r"\1<pid>\2"),
        (r"\b\d+\.\d+(?:/\d+\.\d+)* ms", "<took>"),
        (r"\s+$", ""),
    )
)  # fmt: skip


def plain(text: str) -> str:
    """`text` without identifiers, times, sizes and the space columns need for them."""
    lines = []
    for line in text.splitlines():
        for pattern, word in _RULES:
            line = pattern.sub(word, line)
        lines.append(re.sub(r" {2,}", "  ", line))
    return "\n".join(lines)


def columns(text: str) -> list[str]:
    """The titles of a table."""
    return re.split(r" {2,}", text.splitlines()[0].strip()) if text.strip() else []


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if value is None:
        return "null"
    return {str: "string", list: "list", dict: "object"}[type(value)]


def shape(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, type) of everything in a JSON value; list items count as one."""
    yield path or ".", _kind(value)
    if isinstance(value, dict):
        for key, item in value.items():
            name = "<id>" if re.fullmatch(r"[0-9a-f]{64}", key) else key
            yield from shape(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value[:1]:
            yield from shape(item, f"{path}[]")
