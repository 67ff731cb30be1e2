"""Device access on cgroup v2: a small BPF program in place of v1's devices.allow (bpf(2)).

The v2 tree has no device controller files; the kernel asks a BPF_PROG_TYPE_CGROUP_DEVICE program
at every open and mknod instead. Ours is a list of allow rules, then a refusal.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.base.errors import InvalidParameter

__all__ = [
    "DeviceRule",
    "attach_device_program",
    "attach_loaded_program",
    "device_program",
    "load_device_program",
    "parse_device_rule",
]

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ACCESS_ALL = 7
_ANY = -1

_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2

_LOAD_WORD, _AND_IMM, _SHIFT_RIGHT, _MOVE32 = 0x61, 0x54, 0x74, 0xBC
_JUMP_NOT_EQUAL, _MOVE_IMM, _EXIT = 0x55, 0xB7, 0x95


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """One allowance: type `b` or `c`, numbers or -1 for any, and a mask of m=1, r=2, w=4."""

    type: str
    major: int
    minor: int
    access: int


def parse_device_rule(text: str) -> DeviceRule:
    """A `c 1:3 rwm` line. Raises InvalidParameter in the words of Docker's client."""
    fields = text.split()
    try:
        kind, numbers, letters = fields
        major, minor = numbers.split(":")
        if kind not in _TYPES or not letters or set(letters) - set(_ACCESS):
            raise ValueError
        access = 0
        for letter in letters:
            access |= _ACCESS[letter]
        return DeviceRule(
            kind,
            _ANY if major == "*" else int(major),
            _ANY if minor == "*" else int(minor),
            access,
        )
    except ValueError:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'") from None


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, dst | src << 4, offset, value)


def device_program(rules: Iterable[DeviceRule]) -> bytes:
    """eBPF instructions answering 1 when a rule covers the whole request, else 0.

    The context's first word holds the type in its lower half and the access in its upper one.
    """
    out = [
        _insn(_LOAD_WORD, 2, 1, 0),
        _insn(_MOVE32, 3, 2),
        _insn(_SHIFT_RIGHT, 3, value=16),
        _insn(_AND_IMM, 2, value=0xFFFF),
        _insn(_LOAD_WORD, 4, 1, 4),
        _insn(_LOAD_WORD, 5, 1, 8),
    ]
    for rule in rules:
        # (instruction, is a jump to the next rule); offsets are known once the rule is complete.
        block: list[tuple[int, int, int]] = [(_JUMP_NOT_EQUAL, 2, _TYPES[rule.type])]
        if rule.access != _ACCESS_ALL:
            block += [(_MOVE32, 6, 3), (_AND_IMM, 6, ~rule.access), (_JUMP_NOT_EQUAL, 6, 0)]
        if rule.major != _ANY:
            block.append((_JUMP_NOT_EQUAL, 4, rule.major))
        if rule.minor != _ANY:
            block.append((_JUMP_NOT_EQUAL, 5, rule.minor))
        length = len(block) + 2
        for index, (code, register, value) in enumerate(block):
            if code == _MOVE32:
                out.append(_insn(code, register, value))
            elif code == _JUMP_NOT_EQUAL:
                out.append(_insn(code, register, 0, length - index - 1, value))
            else:
                out.append(_insn(code, register, value=value))
        out += [_insn(_MOVE_IMM, 0, value=1), _insn(_EXIT)]
    out += [_insn(_MOVE_IMM, 0, value=0), _insn(_EXIT)]
    return b"".join(out)


def _bpf(command: int, attributes: bytes) -> int:
    number = _BPF_SYSCALL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "bpf(2) is not known on this architecture")
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(number, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def load_device_program(rules: Iterable[str]) -> int:
    """A descriptor of the program for `rules`, to be attached to any number of groups.

    Raises OSError: EPERM without CAP_BPF in the initial user namespace, ENOSYS without bpf(2).
    """
    import ctypes  # a daemon on v1 never needs it

    program = device_program(parse_device_rule(rule) for rule in rules)
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    load = struct.pack(
        "=IIQQIIQII16sII",
        _TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
        b"labkit_dev",
        0,
        _ATTACH_DEVICE,
    )
    return _bpf(_PROG_LOAD, load)  # close-on-exec, as all descriptors of bpf(2)


def attach_device_program(directory: int, rules: Iterable[str]) -> None:
    """Restrict the group open at `directory` to `rules`. Raises OSError as the loading does."""
    program = load_device_program(rules)
    try:
        attach_loaded_program(directory, program)
    finally:
        os.close(program)  # the group keeps it


def attach_loaded_program(directory: int, program: int) -> None:
    """Attach what load_device_program() gave. Raises OSError."""
    _bpf(_PROG_ATTACH, struct.pack("=IIII", directory, program, _ATTACH_DEVICE, _ALLOW_MULTI))
