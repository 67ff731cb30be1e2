"""Running a seccomp filter without the kernel: classic BPF over one struct seccomp_data.

The instructions are the ones seccomp(2) accepts and seccomp_bpf emits (Documentation/networking/
filter.rst). What comes out is what the kernel would do with the call, and after how many
instructions, which is what each of a container's system calls pays.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from labkit.host.isolation.seccomp_bpf import AUDIT_ARCH

__all__ = ["run"]

_ACTIONS = {
    0x80000000: "KILL_PROCESS",
    0x00000000: "KILL_THREAD",
    0x00030000: "TRAP",
    0x00050000: "ERRNO",
    0x7FF00000: "TRACE",
    0x7FFC0000: "LOG",
    0x7FFF0000: "ALLOW",
}
_ACTION_BITS, _DATA_BITS = 0xFFFF0000, 0xFFFF
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35


def run(
    program: bytes, architecture: str, number: int, arguments: Sequence[int] = ()
) -> tuple[str, int, int]:
    """The action for call `number` with `arguments`, its errno (0 where it has none), and the
    count of instructions executed. `architecture` is a key of AUDIT_ARCH."""
    padded = [one & 0xFFFFFFFFFFFFFFFF for one in (*arguments, 0, 0, 0, 0, 0, 0)][:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, AUDIT_ARCH[architecture], 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = steps = 0
    while True:
        code, if_true, if_false, constant = instructions[at]
        at += 1
        steps += 1
        if code == _LOAD:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == _AND:
            accumulator &= constant
        elif code == _JUMP:
            at += constant
        elif code == _RETURN:
            action = _ACTIONS[constant & _ACTION_BITS]
            return action, constant & _DATA_BITS if action == "ERRNO" else 0, steps
        else:
            holds = {
                _JEQ: accumulator == constant,
                _JGT: accumulator > constant,
                _JGE: accumulator >= constant,
            }[code]
            at += if_true if holds else if_false
