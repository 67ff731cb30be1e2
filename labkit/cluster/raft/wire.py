"""Messages as plain values (lists, numbers, strings), for transports and traces.

Whatever comes from outside passes `unpack` first: it takes nothing on trust, so that a Node only
ever sees messages whose fields have the right types and ranges.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from labkit.cluster.raft.errors import BadMessage
from labkit.cluster.raft.types import (
    Append,
    AppendReply,
    Config,
    Entry,
    EntryKind,
    InstallSnapshot,
    Message,
    ReadRequest,
    ReadResponse,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)

__all__ = [
    "decode",
    "encode",
    "encode_body",
    "encode_numbered",
    "pack",
    "pack_config",
    "pack_entry",
    "unpack",
    "unpack_config",
    "unpack_entry",
]

KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Vote,
        VoteReply,
        Append,
        AppendReply,
        InstallSnapshot,
        SnapshotReply,
        TimeoutNow,
        ReadRequest,
        ReadResponse,
    )
}

LARGEST = 2**53
"""Numbers beyond this are not exact in every JSON reader, and no cluster lives that long."""


def pack(message: Message) -> list[Any]:
    """A message as `[kind, field, …]`. Commands must be plain values themselves."""
    fields = [_pack_field(value) for value in message]
    return [type(message).__name__, *fields]


def encode(number: int, message: Message) -> bytes:
    """One frame of a transport: the sender's number of the message, and the message, as JSON."""
    return encode_numbered(number, encode_body(message))


def encode_body(message: Message) -> bytes:
    """A message as JSON, for several frames: followers in step are sent the same."""
    return json.dumps(pack(message), separators=(",", ":"), ensure_ascii=False).encode()


def encode_numbered(number: int, body: bytes) -> bytes:
    """The frame of a body."""
    return b"[%d,%s]" % (number, body)


def decode(frame: bytes) -> tuple[int, Message]:
    """The number and the message. Raises BadMessage for anything that `encode` does not make."""
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError):
        raise BadMessage(f"cannot read a frame: {_short(frame[:60])} is not JSON") from None
    if not isinstance(found, list) or len(found) != 2:
        raise BadMessage(f"cannot read a frame: {_short(found)} is not a number and a message")
    try:
        return _number(found[0]), unpack(found[1])
    except (TypeError, ValueError) as error:
        raise BadMessage(f"cannot read a frame: {error}") from None


def pack_entry(entry: Entry) -> list[Any]:
    """An entry as `[index, term, kind, data]`."""
    data = pack_config(entry.data) if entry.kind is EntryKind.CONFIG else entry.data
    return [entry.index, entry.term, int(entry.kind), data]


def pack_config(config: Config) -> list[list[int]]:
    """A configuration as three sorted lists: voters, outgoing voters, learners."""
    return [sorted(group) for group in config]


def _pack_field(value: Any) -> Any:
    if isinstance(value, Config):
        return pack_config(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, tuple) and all(isinstance(item, Entry) for item in value):
        return [pack_entry(entry) for entry in value]
    return value


def unpack(packed: Any) -> Message:
    """The message. Raises BadMessage for anything that `pack` does not make."""
    if not isinstance(packed, list) or not packed or not isinstance(packed[0], str):
        raise BadMessage(f"cannot read a message: {_short(packed)} is not one")
    kind = KINDS.get(packed[0])
    if kind is None:
        raise BadMessage(f"cannot read a message: there is no kind {_short(packed[0])}")
    names: tuple[str, ...] = kind._fields
    if len(packed) != len(names) + 1:
        raise BadMessage(f"cannot read {packed[0]}: it has {len(names)} fields: {', '.join(names)}")
    values = []
    for name, value in zip(names, packed[1:], strict=True):
        try:
            values.append(_READERS[name](value))
        except (TypeError, ValueError) as error:
            raise BadMessage(f"cannot read {packed[0]}.{name}: {error}") from None
    message: Message = kind(*values)
    if message.sender == 0:
        raise BadMessage(f"cannot read {packed[0]}: node ids start at 1")
    return message


def unpack_entry(packed: Any) -> Entry:
    """The entry. Raises TypeError or ValueError."""
    if not isinstance(packed, list) or len(packed) != 4:
        raise TypeError(f"{_short(packed)} is not an entry")
    kind = EntryKind(_number(packed[2]))
    data = unpack_config(packed[3]) if kind is EntryKind.CONFIG else packed[3]
    return Entry(_number(packed[0]), _number(packed[1]), kind, data)


def unpack_config(packed: Any) -> Config:
    """The configuration. Raises TypeError or ValueError."""
    if not isinstance(packed, list) or len(packed) != 3:
        raise TypeError(f"{_short(packed)} is not a configuration")
    groups = []
    for group in packed:
        if not isinstance(group, list):
            raise TypeError(f"{_short(group)} is not a list of nodes")
        groups.append(frozenset(_number(node) for node in group))
    if not groups[0] or 0 in frozenset().union(*groups):
        raise ValueError("a configuration needs voters, and node ids start at 1")
    return Config(*groups)


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{_short(value)} is not a whole number")
    if not 0 <= value < LARGEST:
        raise ValueError(f"{value} is out of range")
    return value


def _index_or_none(value: Any) -> int:
    return -1 if value == -1 and type(value) is int else _number(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{_short(value)} is neither true nor false")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{_short(value)} is not base64")
    return base64.b64decode(value, validate=True)


def _entries(value: Any) -> tuple[Entry, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{_short(value)} is not a list of entries")
    return tuple(unpack_entry(entry) for entry in value)


def _context(value: Any) -> Any:
    if not isinstance(value, str | int):
        raise TypeError(f"{_short(value)} is neither a number nor a string")
    return value if isinstance(value, str) else _number(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


_READERS: dict[str, Callable[[Any], Any]] = dict.fromkeys(
    (
        "term",
        "sender",
        "last_index",
        "last_term",
        "prev_index",
        "prev_term",
        "commit",
        "round",
        "hint_index",
        "hint_term",
        "index_term",
        "offset",
    ),
    _number,
)
_READERS.update(
    index=_index_or_none,
    pre=_flag,
    transfer=_flag,
    granted=_flag,
    ok=_flag,
    done=_flag,
    entries=_entries,
    config=unpack_config,
    data=_bytes,
    context=_context,
)
