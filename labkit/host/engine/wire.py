"""Docker's JSON into frozen dataclasses and back, as strictly and as leniently as Go does it.

Go's decoder matches keys without regard to case, ignores keys it does not know, takes `null` as
"not given", and refuses a value of the wrong type with a sentence naming struct, field and type.
Clients and tests know those sentences, so they are kept.

A wire dataclass declares each field with `wire(key, kind, default)`; `read` and `write` go by
that declaration. Lists become tuples, and None is kept apart from the empty list because
Docker's inspect shows the one as `null` and the other as `[]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from labkit.base.errors import InvalidParameter

__all__ = [
    "BOOL",
    "FLOAT",
    "INT",
    "INT64",
    "RAW",
    "SET",
    "STRING",
    "STRSLICE",
    "UINT16",
    "Kind",
    "list_of",
    "map_of",
    "optional",
    "parse_json",
    "read",
    "struct",
    "wire",
    "write",
]

_T = TypeVar("_T")


def _found(value: object) -> str:
    """Go's word for a JSON value of the wrong type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "number"
    if isinstance(value, float):
        return f"number {json.dumps(value)}"
    return "array" if isinstance(value, list | tuple) else "object"


def _mismatch(value: object, where: str, go: str) -> InvalidParameter:
    place = f"Go struct field {where}" if "." in where else "Go value"
    return InvalidParameter(
        f"invalid JSON: json: cannot unmarshal {_found(value)} into {place} of type {go}"
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """One Go type: its name, how to read a JSON value of it and how to write it back."""

    go: str
    read: Callable[[Any, str], Any]
    write: Callable[[Any], Any]
    is_pointer: bool = False
    """Go's `*T`: zero is a value of its own and not "empty"."""


def _plain(value: Any) -> Any:
    return value


def _scalar(go: str, accept: type[Any], *, low: int = 0, high: int = 0) -> Kind:
    def read_scalar(value: Any, where: str) -> Any:
        if type(value) is not accept:  # bool is an int to isinstance
            raise _mismatch(value, where, go)
        if high and not low <= value <= high:
            place = f"Go struct field {where}" if "." in where else "Go value"
            raise InvalidParameter(
                f"invalid JSON: json: cannot unmarshal number {value} into {place} of type {go}"
            )
        return value

    return Kind(go, read_scalar, _plain)


STRING = _scalar("string", str)
BOOL = _scalar("bool", bool)
INT64 = _scalar("int64", int, low=-(1 << 63), high=(1 << 63) - 1)
INT = _scalar("int", int, low=-(1 << 63), high=(1 << 63) - 1)
UINT16 = _scalar("uint16", int, low=0, high=(1 << 16) - 1)


def _read_float(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(value, where, "float64")
    return float(value)


FLOAT = Kind("float64", _read_float, _plain)


def _read_raw(value: Any, where: str) -> Any:  # noqa: ARG001 - one signature for every kind
    return value


RAW = Kind("interface {}", _read_raw, _plain)


def list_of(kind: Kind) -> Kind:
    """`[]T`; None when absent or null."""
    go = f"[]{kind.go}"

    def read_list(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _mismatch(value, where, go)
        return tuple(kind.read(item, where) for item in value if item is not None)

    def write_list(value: Any) -> Any:
        return None if value is None else [kind.write(item) for item in value]

    return Kind(go, read_list, write_list)


def map_of(kind: Kind) -> Kind:
    """`map[string]T`; a null value keeps its key (ports without bindings are such)."""
    go = f"map[string]{kind.go}"

    def read_map(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _mismatch(value, where, go)
        return {
            str(key): None if item is None else kind.read(item, where)
            for key, item in value.items()
        }

    def write_map(value: Any) -> Any:
        if value is None:
            return None
        return {key: None if item is None else kind.write(item) for key, item in value.items()}

    return Kind(go, read_map, write_map)


def _read_set(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, where, "map[string]struct {}")
    return tuple(str(key) for key in value)


def _write_set(value: Any) -> Any:
    return None if value is None else {key: {} for key in value}


SET = Kind("map[string]struct {}", _read_set, _write_set)


def _read_strslice(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise _mismatch(value, where, "[]string")
    return tuple(STRING.read(item, where) for item in value)


STRSLICE = Kind("[]string", _read_strslice, lambda value: None if value is None else list(value))


def optional(kind: Kind) -> Kind:
    """`*T`: None stays None when written."""
    return Kind(
        kind.go,
        kind.read,
        lambda value: None if value is None else kind.write(value),
        is_pointer=True,
    )


def struct(cls: type[Any]) -> Kind:
    """A wire dataclass as the value of a field."""
    return Kind(
        f"container.{cls.__name__}",
        lambda value, where: _read_struct(cls, value, where),
        lambda value: None if value is None else write(value),
    )


def wire(key: str, kind: Kind, default: Any = None, *, omitempty: bool = False) -> Any:
    """A field of a wire dataclass, called `key` in JSON; `omitempty` as in Go's tags."""
    metadata = {"key": key, "kind": kind, "omitempty": omitempty}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _read_struct(cls: type[_T], value: Any, where: str) -> _T:
    if not isinstance(value, Mapping):
        raise _mismatch(value, where, f"container.{cls.__name__}")
    folded = {str(key).lower(): item for key, item in value.items()}
    folded.update({str(key): item for key, item in value.items()})
    found: dict[str, Any] = {}
    for declared in fields(cls):  # type: ignore[arg-type]
        key: str = declared.metadata["key"]
        item = folded.get(key, folded.get(key.lower()))
        if item is not None:
            found[declared.name] = declared.metadata["kind"].read(item, f"{where}.{key}")
    return cls(**found)


def read(cls: type[_T], value: Any, *, name: str | None = None) -> _T:
    """`value` as a `cls`; InvalidParameter with Go's sentence when a type does not fit."""
    return _read_struct(cls, value, name or cls.__name__)


def write(value: Any) -> dict[str, Any]:
    """A wire dataclass as Docker's inspect shows it."""
    shown: dict[str, Any] = {}
    for declared in fields(value):
        item = getattr(value, declared.name)
        kind: Kind = declared.metadata["kind"]
        is_empty = item is None if kind.is_pointer else not item
        if not (declared.metadata["omitempty"] and is_empty):
            shown[declared.metadata["key"]] = kind.write(item)
    return shown


def parse_json(text: bytes | str) -> Any:
    """A JSON body; InvalidParameter for what is not JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None
