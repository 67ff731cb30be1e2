"""Filters of list, prune and events calls: `{"name": ["value", ...]}`.

The API takes them as JSON in two spellings, lists (docker-py) and sets (`{"value": true}`, the
CLI); `parse` understands both. An unknown filter name is an error, as in Docker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_duration_ns

__all__ = [
    "Filters",
    "check_names",
    "matches_boolean",
    "matches_labels",
    "matches_pattern",
    "parse",
    "parse_time_ns",
]

Filters = Mapping[str, Sequence[str]]

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:\d\d)?\Z"
)


def parse(text: str | None) -> dict[str, list[str]]:
    """Either spelling of the query parameter; empty or absent is no filter."""
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid filter: {error}") from None
    if not isinstance(found, dict):
        raise InvalidParameter("invalid filter: expected an object")
    result: dict[str, list[str]] = {}
    for name, values in found.items():
        if isinstance(values, dict):
            result[name] = [str(value) for value, holds in values.items() if holds]
        elif isinstance(values, list):
            result[name] = [str(value) for value in values]
        else:
            raise InvalidParameter(f"invalid filter '{name}={values}'")
    return result


def check_names(filters: Filters, known: Collection[str]) -> None:
    """InvalidParameter when a filter is not one of `known`."""
    for name in filters:
        if name not in known:
            raise InvalidParameter(
                f"invalid filter '{name}'", hint=f"known here: {', '.join(sorted(known))}"
            )


def matches_boolean(filters: Filters, name: str, *, default: bool) -> bool:
    """A filter that says true or false; InvalidParameter for anything else."""
    values = filters.get(name)
    if not values:
        return default
    words = {"1": True, "true": True, "0": False, "false": False}
    found = {words.get(value.lower()) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}={list(values)}'")
    return bool(found.pop())


def matches_labels(wanted: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Every `key` is present and every `key=value` equal."""
    for entry in wanted:
        key, separator, value = entry.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


def matches_pattern(wanted: Sequence[str], texts: Sequence[str]) -> bool:
    """One of `wanted`, as a regular expression, is found in one of `texts`; no wanted: yes."""
    if not wanted:
        return True
    for pattern in wanted:
        for text in texts:
            if pattern == text:
                return True
            try:
                if re.search(pattern, text):
                    return True
            except re.error:
                continue
    return False


def parse_time_ns(text: str, now_ns: int) -> int:
    """`1700000000.5`, RFC 3339, or a duration back from now (`10m`), as Unix nanoseconds."""
    if re.fullmatch(r"-?\d+(\.\d{1,9})?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
    match = _RFC3339.match(text)
    if match:
        day, clock, seconds, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(
                f"{day}T{clock or '00:00'}:{seconds or '00'}{(zone or 'Z').replace('Z', '+00:00')}"
            )
        except ValueError:
            raise InvalidParameter(f'failed to parse "{text}" as a time') from None
        since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
        whole_s = since_epoch.days * 86_400 + since_epoch.seconds
        return whole_s * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
    return now_ns - parse_duration_ns(text)
