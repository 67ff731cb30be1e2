"""From seccomp rules to a classic BPF program.

Layout: the architecture is checked first (numbers mean different calls on another one), then the
call's number is looked up by a balanced search over ranges of numbers with the same fate, about
seven comparisons deep, and argument tests follow at the leaves. Jumps in classic BPF only go
forward, and conditional ones reach 255 instructions: every block is laid out after the test that
leads to it, and a longer way goes through an unconditional jump.

A number above every one that the table knows answers ENOSYS rather than the policy's refusal, so
that a program's libc tries the older call instead of giving up. Calls by the x32 convention
(bit 30 of the number) answer ENOSYS too: distributions build kernels without it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.seccomp import ArgumentTest, Rule, Verdict, syscall_numbers

__all__ = ["AUDIT_ARCH", "MAX_INSTRUCTIONS", "action_value", "build_filter"]

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}

_ENOSYS = 38
_X32_BIT = 0x40000000

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54
_JUMP = 0x05
_JEQ = 0x15
_JGT = 0x25
_JGE = 0x35
_RETURN = 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

_ACTION_BASE = {
    "KILL": 0x00000000,
    "KILL_THREAD": 0x00000000,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x00030000,
    "ERRNO": 0x00050000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}


class Insn(NamedTuple):
    """struct sock_filter: code, jump if true, jump if false, constant."""

    code: int
    jt: int
    jf: int
    k: int


Block = list[Insn]


def action_value(verdict: Verdict) -> int:
    """The filter's return value for a verdict."""
    return _ACTION_BASE[verdict.action] | (verdict.errno & 0xFFFF)


def _ret(verdict: Verdict) -> Insn:
    return Insn(_RETURN, 0, 0, action_value(verdict))


def build_filter(default: Verdict, rules: Sequence[Rule], tables: Sequence[str]) -> bytes:
    """The whole program for the call tables `tables`; any other architecture is killed.

    Raises InvalidParameter when the policy does not fit into what the kernel accepts.
    """
    program: Block = [Insn(_LOAD, 0, 0, _ARCH_AT)]
    for table in tables:
        section = _section(default, rules, table)
        program += _unless(Insn(_JEQ, 0, 0, AUDIT_ARCH[table]), section)
    program.append(_ret(Verdict("KILL_PROCESS")))
    if len(program) > MAX_INSTRUCTIONS:
        raise InvalidParameter(
            f"seccomp profile is too large: {len(program)} instructions, "
            f"the kernel takes {MAX_INSTRUCTIONS}"
        )
    return b"".join(struct.pack("=HBBI", *insn) for insn in program)


def _unless(test: Insn, block: Block) -> Block:
    """`block` when the test holds, else past it."""
    if len(block) <= 255:
        return [test._replace(jt=0, jf=len(block)), *block]
    return [test._replace(jt=1, jf=0), Insn(_JUMP, 0, 0, len(block)), *block]


def _section(default: Verdict, rules: Sequence[Rule], table: str) -> Block:
    numbers = syscall_numbers(table)
    leaves: dict[int, Block] = {}
    for name, number in numbers.items():
        leaves[number] = _leaf(default, [rule for rule in rules if name in rule.names])
    top = max(numbers.values())
    block: Block = [Insn(_LOAD, 0, 0, _NUMBER_AT)]
    unknown = _ret(Verdict("ERRNO", _ENOSYS)) if default.action == "ERRNO" else _ret(default)
    if table == "x86_64":
        block += [Insn(_JGE, 0, 1, _X32_BIT), _ret(Verdict("ERRNO", _ENOSYS))]
    block += [Insn(_JGT, 0, 1, top), unknown]
    refused: Block = [_ret(default)]
    ranges: list[tuple[int, Block]] = []
    for number in range(top + 1):
        fate = leaves.get(number, refused)
        if not ranges or ranges[-1][1] != fate:
            ranges.append((number, fate))
    return block + _search(ranges)


def _search(ranges: Sequence[tuple[int, Block]]) -> Block:
    """A balanced tree over (first number, fate), left half first."""
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    left, right = _search(ranges[:middle]), _search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(left) <= 255:
        return [Insn(_JGE, len(left), 0, pivot), *left, *right]
    return [Insn(_JGE, 0, 1, pivot), Insn(_JUMP, 0, 0, len(left)), *left, *right]


def _leaf(default: Verdict, rules: Sequence[Rule]) -> Block:
    """What happens to one call: an unconditional rule, else the first whose tests hold."""
    for rule in rules:
        if not rule.tests:
            return [_ret(rule.verdict)]
    block: Block = []
    for rule in rules:
        for tests in rule.alternatives:
            block += _tested(tests, rule.verdict)
    return [*block, _ret(default)]


_PASS, _FAIL = -1, -2


def _tested(tests: Sequence[ArgumentTest], verdict: Verdict) -> Block:
    """The tests, then the verdict; a test that fails jumps past it."""
    parts = [_comparison(test) for test in tests]
    total = sum(len(part) for part in parts) + 1
    out: Block = []
    for part in parts:
        passed = len(out) + len(part)
        for insn in part:
            # A jump's offset counts from the instruction after it.
            here = len(out) + 1
            jump = {_PASS: passed - here, _FAIL: total - here}
            out.append(insn._replace(jt=jump.get(insn.jt, insn.jt), jf=jump.get(insn.jf, insn.jf)))
    return [*out, _ret(verdict)]


def _comparison(test: ArgumentTest) -> Block:
    """One 64-bit comparison in 32-bit steps, upper half first (both machines are little-endian)."""
    low = _ARGUMENTS_AT + 8 * test.index
    load_high, load_low = Insn(_LOAD, 0, 0, low + 4), Insn(_LOAD, 0, 0, low)
    high_value, low_value = test.value >> 32, test.value & 0xFFFFFFFF
    match test.comparison:
        case "SCMP_CMP_EQ":
            return [
                load_high,
                Insn(_JEQ, 0, _FAIL, high_value),
                load_low,
                Insn(_JEQ, _PASS, _FAIL, low_value),
            ]
        case "SCMP_CMP_NE":
            return [
                load_high,
                Insn(_JEQ, 0, _PASS, high_value),
                load_low,
                Insn(_JEQ, _FAIL, _PASS, low_value),
            ]
        case "SCMP_CMP_MASKED_EQ":
            return [
                load_high,
                Insn(_AND, 0, 0, high_value),
                Insn(_JEQ, 0, _FAIL, test.other >> 32),
                load_low,
                Insn(_AND, 0, 0, low_value),
                Insn(_JEQ, _PASS, _FAIL, test.other & 0xFFFFFFFF),
            ]
    # The ordered comparisons: GE and GT as they are, LT and LE as their opposites.
    opposite = test.comparison in ("SCMP_CMP_LT", "SCMP_CMP_LE")
    yes, no = (_FAIL, _PASS) if opposite else (_PASS, _FAIL)
    last = _JGE if test.comparison in ("SCMP_CMP_GE", "SCMP_CMP_LT") else _JGT
    return [
        load_high,
        Insn(_JGT, yes, 0, high_value),
        Insn(_JEQ, 0, no, high_value),
        load_low,
        Insn(last, yes, no, low_value),
    ]
