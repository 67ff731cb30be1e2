"""`labkit-oci update`: other limits for a container, live."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter
from labkit.host.isolation.oci.groups import group_of
from labkit.host.isolation.oci.limits import merge_resources
from labkit.host.isolation.oci.records import STOPPED, Record
from labkit.host.isolation.oci.words import Words

__all__ = ["update"]

# Flag: where its number or list belongs in linux.resources.
_NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-share": ("cpu", "shares"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
_LISTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def update(record: Record, words: Words) -> list[str]:
    """Write the limits; a sentence for each that this machine cannot enforce."""
    if record.status() == STOPPED:
        raise Conflict("container not running")
    change = _from_file(words.get("resources")) if words.get("resources") else _from_flags(words)
    config = record.config()
    linux = config.setdefault("linux", {})
    linux["resources"], limits = merge_resources(linux.get("resources") or {}, change)
    warnings = group_of(record.name, record.data.get("groups") or {}).update(limits)
    with open(f"{record.folder}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return warnings


def _from_file(path: str) -> Mapping[str, Any]:
    try:
        if path == "-":
            data = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"cannot read resources from {path}: {error}") from error
    if not isinstance(data, dict):
        raise InvalidParameter(f"resources in {path} are not a JSON object")
    return data


def _from_flags(words: Words) -> Mapping[str, Any]:
    change: dict[str, dict[str, Any]] = {}
    for flag, (group, key) in _NUMBERS.items():
        if words.get(flag):
            change.setdefault(group, {})[key] = _amount(flag, words.get(flag))
    for flag, (group, key) in _LISTS.items():
        if words.get(flag):
            change.setdefault(group, {})[key] = words.get(flag)
    return change


def _amount(flag: str, text: str) -> int:
    digits, unit = text, 1
    if flag.startswith("memory") and text[-1:].lower() in _UNITS:
        digits, unit = text[:-1], _UNITS[text[-1].lower()]
    try:
        return int(digits) * unit
    except ValueError:
        raise InvalidParameter(f"invalid value for {flag}: {text}") from None
