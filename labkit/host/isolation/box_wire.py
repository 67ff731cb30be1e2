"""Frames between the daemon and a box (native/box.h says what they hold)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from labkit.base.errors import SystemFailure
from labkit.host.isolation.spec import Step

__all__ = ["MAX_FRAME", "BoxReply", "decode_reply", "encode_request"]

MAX_FRAME = 1 << 20
_FIXED_FIELDS = 4
_FIELDS_PER_STEP = 6


@dataclass(frozen=True, slots=True)
class BoxReply:
    """What one primitive did. On failure `message` names call, object and reason, `hint` the
    next thing to try; `steps` are there either way."""

    ok: bool
    result: dict[str, object] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    errno: int = 0
    call: str = ""
    message: str = ""
    hint: str = ""


def encode_request(operation: str, arguments: Sequence[str | bytes]) -> bytes:
    """A frame with its length in front. Raises SystemFailure when it would be too long."""
    out = bytearray()
    for value in (operation, *arguments):
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        out += struct.pack("=I", len(data)) + data
    if len(out) > MAX_FRAME:
        raise SystemFailure(f"cannot send {operation} to the box: {len(out)} bytes are too many")
    return struct.pack("=I", len(out)) + bytes(out)


def _fields(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("=I", data, at)
        at += 4
        if at + size > len(data):
            raise SystemFailure("the box sent a broken reply")
        found.append(data[at : at + size])
        at += size
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


_NUMBERS = frozenset(
    "inner_pid exit_code signal timed_out truncated uid gid no_new_privs".split()  # noqa: SIM905
)
_BYTES = frozenset({"stdout", "stderr", "text"})


def decode_reply(data: bytes) -> BoxReply:
    """A reply without its length; numbers become int, output stays bytes."""
    fields = _fields(data)
    try:
        ok, errno, call, count = fields[:_FIXED_FIELDS]
        steps, at = [], _FIXED_FIELDS
        for _ in range(int(count)):
            name, done, detail, start, end, error = fields[at : at + _FIELDS_PER_STEP]
            steps.append(
                Step(
                    _text(name),
                    _text(done),
                    _text(detail),
                    int(start),
                    int(end),
                    "child",
                    int(error),
                )
            )
            at += _FIELDS_PER_STEP
        result: dict[str, object] = {}
        for key, value in zip(fields[at::2], fields[at + 1 :: 2], strict=True):
            name_text = _text(key)
            if name_text in _NUMBERS:
                result[name_text] = int(value)
            else:
                result[name_text] = value if name_text in _BYTES else _text(value)
    except ValueError as error_:
        raise SystemFailure("the box sent a broken reply") from error_
    return BoxReply(ok == b"ok", result, tuple(steps), int(errno), _text(call))
