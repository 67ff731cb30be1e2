"""What the kernel says holds a process, and what a filter does with a call."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from labkit.base.errors import InvalidParameter, NotFound
from labkit.host.isolation.capabilities import DEFAULT_CAPABILITIES
from labkit.host.isolation.confinement import confinement_of, syscall_verdict
from labkit.host.isolation.seccomp import load_profile, syscall_numbers, verdict

MACHINE = "x86_64"


def ask(name: str, *arguments: int, add: frozenset[str] = frozenset()) -> dict[str, object]:
    held = frozenset(DEFAULT_CAPABILITIES) | add
    return syscall_verdict(load_profile(None), held, name, arguments, machine=MACHINE)


def test_a_call_reserved_for_a_capability_names_it() -> None:
    found = ask("mount")
    assert (found["allowed"], found["errno"]) == (False, "EPERM")
    assert found["capabilities"] == ["CAP_SYS_ADMIN"]
    assert ask("mount", add=frozenset({"CAP_SYS_ADMIN"}))["allowed"]


def test_a_call_on_no_list_gets_the_answer_for_everything_else() -> None:
    found = ask("keyctl")
    assert not found["allowed"]
    assert "not on the list" in str(found["because"])


def test_arguments_decide_where_the_policy_looks_at_them() -> None:
    assert ask("socket", 2)["allowed"]  # AF_INET
    refused = ask("socket", 40)  # AF_VSOCK
    assert not refused["allowed"]
    assert "other arguments" in str(refused["because"])


def test_without_a_filter_everything_passes() -> None:
    found = syscall_verdict(None, (), "mount", machine=MACHINE)
    assert found["allowed"]
    assert found["instructions"] == 0


def test_a_call_that_does_not_exist_is_named() -> None:
    with pytest.raises(InvalidParameter, match="no system call"):
        ask("mountt")


def test_the_program_and_the_policy_agree_on_every_call() -> None:
    profile, held = load_profile(None), frozenset(DEFAULT_CAPABILITIES)
    assert profile is not None
    differing = [
        name
        for name in syscall_numbers(MACHINE)
        if ask(name)["action"] != verdict(profile, held, name, machine=MACHINE).action
    ]
    assert differing == []


def test_a_running_process_is_described_by_the_kernel() -> None:
    found = confinement_of(os.getpid())
    assert found["uid"] == os.getuid()
    assert set(found["capabilities"]) == {
        "inheritable",
        "permitted",
        "effective",
        "bounding",
        "ambient",
    }
    assert found["uid_map"]


def test_a_process_that_has_ended_is_not_found() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises(NotFound, match="has ended"):
        confinement_of(gone.pid)
