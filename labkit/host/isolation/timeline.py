"""Reads timeline.bin, which shim and container write while they start (native/timeline.h)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

from labkit.host.isolation.spec import Step

__all__ = ["read_steps"]

_MAGIC, _VERSION, _STEPS_MAX = 0x4C4B544C, 1, 192
_HEADER = struct.Struct("=IIII")
_STEP = struct.Struct("=QQiI32s96s104s")
_BY: dict[int, Literal["shim", "child"]] = {1: "shim", 2: "child"}


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def read_steps(path: Path) -> tuple[Step, ...]:
    """The steps in the order they began; none when the file is missing or of another version.

    A step that never returned ends when it began.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return ()
    if len(data) < _HEADER.size:
        return ()
    magic, version, count, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        return ()
    count = min(count, _STEPS_MAX, (len(data) - _HEADER.size) // _STEP.size)
    steps = []
    for index in range(count):
        start, end, error, by, name, call, detail = _STEP.unpack_from(
            data, _HEADER.size + index * _STEP.size
        )
        if by not in _BY:
            continue
        steps.append(
            Step(_text(name), _text(call), _text(detail), start, end or start, _BY[by], error)
        )
    return tuple(sorted(steps, key=lambda step: step.start_ns))
