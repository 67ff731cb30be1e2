"""What can be asked of the store; plain tuples, and lists of plain values in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from labkit.base.errors import InvalidParameter

__all__ = [
    "Command",
    "Compact",
    "Compare",
    "Delete",
    "Grant",
    "Once",
    "Put",
    "Range",
    "Revoke",
    "Txn",
    "pack",
    "prefix_end",
    "unpack",
]


class Put(NamedTuple):
    """Write a value; with a `lease` the key lives no longer than that."""

    key: str
    value: str
    lease: int = 0


class Delete(NamedTuple):
    """Delete one key, or all from `key` up to `end` (exclusive)."""

    key: str
    end: str | None = None


class Range(NamedTuple):
    """Read one key, or all from `key` up to `end`; `revision` 0 is now, `limit` 0 is all."""

    key: str
    end: str | None = None
    revision: int = 0
    limit: int = 0


class Compare(NamedTuple):
    """A condition on one key: `field` is version, create, mod, value or lease.

    A key that does not exist has version, create and mod 0 and an empty value: comparing version
    with 0 asks whether it exists.
    """

    key: str
    field: str
    operator: str
    operand: Any


class Txn(NamedTuple):
    """If all compares hold, do the first list, else the second, at one revision."""

    compares: tuple[Compare, ...]
    success: tuple[Put | Delete | Range, ...]
    failure: tuple[Put | Delete | Range, ...] = ()


class Grant(NamedTuple):
    """A lease of so many ticks; the id is chosen by who asks, and must be new."""

    lease: int
    ttl_ticks: int


class Revoke(NamedTuple):
    """End a lease; its keys are deleted."""

    lease: int


class Compact(NamedTuple):
    """Forget what was overwritten up to a revision."""

    revision: int


class Once(NamedTuple):
    """A command that takes effect once, however often it is sent (dissertation 6.3).

    `client` is a name that nobody else uses; `number` counts its commands from 1 and goes up only
    when the one before was answered. Whoever got no answer sends the same again.
    """

    client: str
    number: int
    command: Put | Delete | Range | Txn | Grant | Revoke | Compact


Command: TypeAlias = Put | Delete | Range | Txn | Grant | Revoke | Compact | Once

_KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind for kind in (Put, Delete, Range, Txn, Grant, Revoke, Compact, Once)
}
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "key": lambda value: isinstance(value, str) and value != "",
    "end": lambda value: value is None or isinstance(value, str),
    "value": lambda value: isinstance(value, str),
    "field": lambda value: value in ("version", "create", "mod", "value", "lease"),
    "operator": lambda value: value in ("=", "!=", "<", ">"),
    "operand": lambda value: isinstance(value, str) or _is_number(value),
    "lease": lambda value: _is_number(value),
    "ttl_ticks": lambda value: _is_number(value) and value > 0,
    "revision": lambda value: _is_number(value),
    "limit": lambda value: _is_number(value),
    "client": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: _is_number(value) and value > 0,
}


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


_CHECKS: dict[type[Any], tuple[tuple[str, Callable[[Any], bool]], ...]] = {
    kind: tuple((field, _FIELDS[field]) for field in kind._fields)
    for kind in (Put, Delete, Range, Compare, Grant, Revoke, Compact)
}


def prefix_end(prefix: str) -> str:
    """The `end` for all keys that begin with `prefix`."""
    if not prefix:
        raise InvalidParameter("a prefix must not be empty")
    # The highest code point there is; no text can follow it within the same prefix but itself.
    return prefix + "\U0010ffff"


def pack(command: Command) -> list[Any]:
    """A command as plain values, for the log and the wire."""
    if isinstance(command, Txn):
        return [
            "txn",
            [list(compare) for compare in command.compares],
            [pack(step) for step in command.success],
            [pack(step) for step in command.failure],
        ]
    if isinstance(command, Once):
        return ["once", command.client, command.number, pack(command.command)]
    return [type(command).__name__.lower(), *command]


def unpack(packed: Any) -> Command:
    """The command. Raises InvalidParameter for anything that `pack` does not make."""
    if not isinstance(packed, list) or not packed or not _is_known(packed[0]):
        raise InvalidParameter(f"not a command of the store: {packed!r:.80}")
    name, *values = packed
    if name == "txn":
        return _unpack_txn(values)
    if name == "once":
        return _unpack_once(values)
    command: Command = _read(_KINDS[name], values)
    return command


def _is_known(name: Any) -> bool:
    return isinstance(name, str) and name in _KINDS


def _read(kind: type[Any], values: list[Any]) -> Any:
    checks = _CHECKS[kind]
    if len(values) != len(checks):
        raise InvalidParameter(f"{kind.__name__} needs {', '.join(kind._fields)}")
    for (field, check), value in zip(checks, values, strict=True):
        try:
            fits = check(value)
        except TypeError:  # an unhashable or incomparable stranger
            fits = False
        if not fits:
            raise InvalidParameter(f"{kind.__name__}.{field} cannot be {value!r:.60}")
    return kind._make(values)


def _unpack_once(values: list[Any]) -> Once:
    if len(values) != 3 or not _FIELDS["client"](values[0]) or not _FIELDS["number"](values[1]):
        raise InvalidParameter("Once needs a client, a number from 1 on, and a command")
    if _name_of(values[2]) == "once":
        raise InvalidParameter("Once cannot hold another Once")
    inner: Any = unpack(values[2])
    return Once(values[0], values[1], inner)


def _name_of(packed: Any) -> Any:
    return packed[0] if isinstance(packed, list) and packed else None


def _unpack_txn(values: list[Any]) -> Txn:
    if len(values) != 3 or not all(isinstance(part, list) for part in values):
        raise InvalidParameter("Txn needs three lists: compares, success, failure")
    compares = []
    for compare in values[0]:
        if not isinstance(compare, list):
            raise InvalidParameter(f"not a compare: {compare!r:.60}")
        compares.append(_read(Compare, compare))
    branches: list[tuple[Any, ...]] = []
    for branch in values[1:]:
        # Looked at before it is read: whoever nests a thousand of them must not get far.
        if not all(_name_of(step) in ("put", "delete", "range") for step in branch):
            raise InvalidParameter("a Txn is made of Put, Delete and Range")
        branches.append(tuple(unpack(step) for step in branch))
    return Txn(tuple(compares), branches[0], branches[1])
