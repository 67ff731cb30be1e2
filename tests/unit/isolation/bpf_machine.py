"""A classic BPF interpreter for seccomp programs, written from the kernel's description
(Documentation/networking/filter.rst), so that filters are judged without the kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["run_filter", "validate"]


def _program(code: bytes) -> list[tuple[int, int, int, int]]:
    return [tuple(insn) for insn in struct.iter_unpack("=HBBI", code)]  # type: ignore[misc]


def run_filter(code: bytes, arch: int, number: int, arguments: Sequence[int]) -> int:
    """The value the filter returns for one call."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    program, accumulator, at = _program(code), 0, 0
    while True:
        operation, jt, jf, k = program[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            at += k
        elif operation == 0x06:
            return k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}
            at += jt if holds[operation] else jf


def validate(code: bytes) -> None:
    """What the kernel's checker demands: jumps inside the program, and a return at its end."""
    program = _program(code)
    assert 0 < len(program) <= 4096
    for at, (operation, jt, jf, k) in enumerate(program):
        if operation == 0x05:
            assert at + 1 + k < len(program)
        elif operation in (0x15, 0x25, 0x35):
            assert at + 1 + max(jt, jf) < len(program)
        elif operation == 0x20:
            assert k % 4 == 0
            assert k < 64
        else:
            assert operation in (0x06, 0x54)
    assert program[-1][0] == 0x06
