"""Seccomp profiles mean what Docker's format says, and the compiled filter decides the same."""

from __future__ import annotations

import errno
import json
import random
from pathlib import Path

import pytest
from bpf_machine import run_filter, validate

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.isolation import seccomp
from labkit.host.isolation.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from labkit.host.isolation.seccomp import Verdict, compile_profile, load_profile, parse_profile
from labkit.host.isolation.seccomp_bpf import AUDIT_ARCH, action_value

KERNEL = (6, 1)
ALLOW = action_value(Verdict("ALLOW"))
REFUSE = action_value(Verdict("ERRNO", errno.EPERM))
ABSENT = action_value(Verdict("ERRNO", errno.ENOSYS))


def decide(
    name: str, *arguments: int, caps: object = DEFAULT_CAPABILITIES, table: str = "x86_64"
) -> int:
    profile = load_profile(None)
    machine = "x86_64" if table == "i386" else table
    code = compile_profile(profile, caps, machine, kernel=KERNEL)  # type: ignore[arg-type]
    assert code is not None
    number = seccomp.syscall_numbers(table)[name]
    return run_filter(code, AUDIT_ARCH[table], number, arguments)


@pytest.mark.parametrize("name", ["read", "openat", "execve", "clone", "chroot", "mknod", "futex"])
def test_everyday_calls_are_allowed(name: str) -> None:
    assert decide(name) == ALLOW


@pytest.mark.parametrize(
    "name",
    [
        *("mount", "umount2", "unshare", "setns", "pivot_root", "bpf", "keyctl", "add_key"),
        *("request_key", "kexec_load", "init_module", "finit_module", "reboot", "swapon", "acct"),
        *("settimeofday", "perf_event_open", "userfaultfd", "io_uring_setup", "open_by_handle_at"),
        *("iopl", "ioperm", "kcmp", "syslog", "fsopen", "open_tree", "move_mount", "quotactl"),
    ],
)
def test_calls_that_act_on_the_whole_machine_are_refused(name: str) -> None:
    assert decide(name) == REFUSE


@pytest.mark.parametrize(
    ("family", "expected"),
    [*((family, ALLOW) for family in (1, 2, 10, 16, 37, 39, 41)), (38, REFUSE), (40, REFUSE)],
)
@pytest.mark.parametrize("table", ["x86_64", "i386", "aarch64"])
def test_sockets_of_every_family_but_alg_and_vsock(family: int, expected: int, table: str) -> None:
    assert decide("socket", family, table=table) == expected


def test_the_32_bit_multiplexer_cannot_open_a_socket_behind_the_filter() -> None:
    assert decide("socketcall", 1, table="i386") == REFUSE
    assert decide("socketcall", 3, table="i386") == ALLOW


@pytest.mark.parametrize(
    "flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_clone_makes_no_namespace_without_sys_admin(flag: int) -> None:
    assert decide("clone", flag | 17) == REFUSE
    assert decide("clone", 17) == ALLOW
    assert decide("clone", flag | 17, caps=ALL_CAPABILITIES) == ALLOW


def test_clone3_looks_absent_so_that_libc_falls_back_to_clone() -> None:
    assert decide("clone3") == ABSENT
    assert decide("clone3", caps=ALL_CAPABILITIES) == ALLOW


def test_a_capability_opens_its_calls() -> None:
    assert decide("mount", caps=["CAP_SYS_ADMIN"]) == ALLOW
    assert decide("chroot", caps=[]) == REFUSE
    assert decide("clock_settime", caps=["CAP_SYS_TIME"]) == ALLOW


def test_personality_keeps_to_the_harmless_values() -> None:
    assert decide("personality", 0xFFFFFFFF) == ALLOW
    assert decide("personality", 0x0008) == ALLOW
    assert decide("personality", 0x0040000) == REFUSE
    # Only the low 32 bits equal: the upper half counts too.
    assert decide("personality", 1 << 32) == REFUSE


def test_numbers_beyond_the_table_and_x32_calls_look_absent() -> None:
    code = compile_profile(load_profile(None), (), "x86_64", kernel=KERNEL)
    assert code is not None
    assert run_filter(code, AUDIT_ARCH["x86_64"], 5000, ()) == ABSENT
    assert run_filter(code, AUDIT_ARCH["x86_64"], 0x40000000, ()) == ABSENT


def test_an_architecture_outside_the_map_is_killed() -> None:
    code = compile_profile(load_profile(None), (), "aarch64", kernel=KERNEL)
    assert code is not None
    assert run_filter(code, 0x40000028, 0, ()) == action_value(Verdict("KILL_PROCESS"))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("caps", [(), DEFAULT_CAPABILITIES, ALL_CAPABILITIES], ids=len)
def test_every_named_call_gets_the_verdict_the_profile_states(
    machine: str, caps: tuple[str, ...]
) -> None:
    profile = load_profile(None)
    assert profile is not None
    code = compile_profile(profile, caps, machine, kernel=KERNEL)
    assert code is not None
    validate(code)
    values = [0, 1, 17, 38, 40, 0x10000000, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1]
    for table in (machine, *dict(profile.tables)[machine]):
        for name, number in seccomp.syscall_numbers(table).items():
            for value in values:
                arguments = (value, 0, 0, 0, 0, 0)
                expected = seccomp.verdict(
                    profile, caps, name, arguments, machine=machine, kernel=KERNEL
                )
                found = run_filter(code, AUDIT_ARCH[table], number, arguments)
                assert found == action_value(expected), (table, name, value)


def _random_profile(rng: random.Random, names: list[str]) -> str:
    operations = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
    edges = [0, 1, 5, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, (5 << 32) | 5, (1 << 64) - 1]
    rules = []
    for _ in range(rng.randint(1, 30)):
        tests = [
            {
                "index": rng.randrange(6),
                "op": "SCMP_CMP_" + rng.choice(operations),
                "value": rng.choice(edges),
                "valueTwo": rng.choice(edges),
            }
            for _ in range(rng.choice([0, 0, 1, 2, 4]))
        ]
        rules.append(
            {
                "names": rng.sample(names, rng.randint(1, 12 if tests else 60)),
                "action": rng.choice(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG"]),
                "errnoRet": rng.randrange(1, 100),
                "args": tests,
            }
        )
    return json.dumps({"defaultAction": "SCMP_ACT_TRAP", "syscalls": rules})


@pytest.mark.parametrize("seed", range(25))
def test_a_random_profile_compiles_to_what_direct_reading_says(seed: int) -> None:
    rng = random.Random(seed)
    numbers = seccomp.syscall_numbers("x86_64")
    names = sorted(numbers)
    profile = parse_profile(_random_profile(rng, names))
    code = compile_profile(profile, (), "x86_64", kernel=KERNEL)
    assert code is not None
    validate(code)
    edges = [0, 1, 4, 5, 6, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, (5 << 32) | 5, (1 << 64) - 1]
    for _ in range(400):
        name = rng.choice(names)
        arguments = tuple(rng.choice(edges) for _ in range(6))
        expected = seccomp.verdict(profile, (), name, arguments, machine="x86_64", kernel=KERNEL)
        found = run_filter(code, AUDIT_ARCH["x86_64"], numbers[name], arguments)
        assert found == action_value(expected), f"seed {seed}: {name}{arguments}"


def test_several_tests_on_one_argument_are_alternatives() -> None:
    tests = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (3, 7)]
    rule = {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": tests}
    profile = parse_profile(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
    answers = [
        seccomp.verdict(profile, (), "personality", (v,), machine="x86_64", kernel=KERNEL).allowed
        for v in (3, 5, 7)
    ]
    assert answers == [True, False, True]


def test_unconfined_is_no_filter() -> None:
    assert load_profile("unconfined") is None
    assert compile_profile(None) is None


def test_an_inline_profile_and_a_file_read_the_same(tmp_path: Path) -> None:
    text = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    path = tmp_path / "profile.json"
    path.write_text(text)
    assert load_profile(text) == load_profile(str(path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "Decoding seccomp profile failed"),
        ('{"defaultAction": "ALLOW"}', "invalid seccomp action"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "invalid seccomp action"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 3}', "not a list"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"], "archMap": [{"a": 1}]}',
            "use either 'architectures' or 'archMap'",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "names": ["x"]}]}',
            "use either 'name' or 'names'",
        ),
    ],
)
def test_a_profile_that_means_nothing_is_refused_with_the_reason(text: str, sentence: str) -> None:
    with pytest.raises(InvalidParameter, match=sentence):
        parse_profile(text)


def test_a_missing_profile_file_is_named() -> None:
    with pytest.raises(InvalidParameter, match="no such file or directory"):
        load_profile("/nowhere/profile.json")


def test_a_machine_without_a_table_is_unsupported() -> None:
    with pytest.raises(Unsupported):
        compile_profile(load_profile(None), (), "s390x")


def test_compiling_twice_gives_the_same_object() -> None:
    first = compile_profile(load_profile(None), DEFAULT_CAPABILITIES, "x86_64")
    assert compile_profile(load_profile(None), DEFAULT_CAPABILITIES, "x86_64") is first
