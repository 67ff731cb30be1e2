"""Seccomp policies in Docker's profile format: reading, choosing, and asking what they decide.

A profile is a default action and a list of rules; a rule applies depending on the container's
capabilities, the architecture and the kernel (`includes`, `excludes`). `compile_profile` turns
the rules that apply into a classic BPF program (seccomp_bpf.py); `verdict` answers for one call
without compiling, which is what explanations show and what the compiler is tested against.

Format: docs.docker.com "Seccomp security profiles for Docker". Kernel side: seccomp(2).
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from labkit.base.errors import InvalidParameter, Unsupported

__all__ = [
    "ARCHITECTURES",
    "ArgumentTest",
    "Profile",
    "Rule",
    "Verdict",
    "applicable_rules",
    "compile_profile",
    "load_profile",
    "parse_profile",
    "source_of",
    "syscall_numbers",
    "verdict",
]

_COMPARISONS = frozenset(
    f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
)
_ACTIONS = frozenset(
    f"SCMP_ACT_{name}"
    for name in ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG")
)
_EPERM = 1
_UINT64 = (1 << 64) - 1

ARCHITECTURES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64", ("i386",)),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64", ()),
}
"""Machine name (uname -m) to libseccomp's name, Go's name, and the tables that may follow it."""

_SUB_ARCHITECTURES = {"SCMP_ARCH_X86": "i386"}


@dataclass(frozen=True, slots=True)
class ArgumentTest:
    """One comparison of a 64-bit argument.

    For MASKED_EQ `value` is the mask and `other` what must remain.
    """

    index: int
    comparison: str
    value: int
    other: int = 0

    def holds(self, arguments: Sequence[int]) -> bool:
        found = arguments[self.index] & _UINT64
        match self.comparison:
            case "SCMP_CMP_NE":
                return found != self.value
            case "SCMP_CMP_LT":
                return found < self.value
            case "SCMP_CMP_LE":
                return found <= self.value
            case "SCMP_CMP_EQ":
                return found == self.value
            case "SCMP_CMP_GE":
                return found >= self.value
            case "SCMP_CMP_GT":
                return found > self.value
            case _:
                return found & self.value == self.other


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a call: an action without its prefix, and the errno of ERRNO and TRACE."""

    action: str
    errno: int = 0

    @property
    def allowed(self) -> bool:
        return self.action in ("ALLOW", "LOG")


@dataclass(frozen=True, slots=True)
class Condition:
    """When a rule counts: every capability, one of the architectures, at least the kernel."""

    capabilities: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()
    min_kernel: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """`verdict` for the calls `names` when all `tests` hold; several tests on one argument are
    alternatives instead, as OCI runtimes treat them."""

    names: tuple[str, ...]
    verdict: Verdict
    tests: tuple[ArgumentTest, ...] = ()
    includes: Condition = Condition()
    excludes: Condition = Condition()

    @property
    def alternatives(self) -> tuple[tuple[ArgumentTest, ...], ...]:
        indexes = [test.index for test in self.tests]
        if len(set(indexes)) < len(indexes):
            return tuple((test,) for test in self.tests)
        return (self.tests,)


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole policy. `tables` maps a machine to the call tables it may use besides its own."""

    default: Verdict
    rules: tuple[Rule, ...]
    tables: tuple[tuple[str, tuple[str, ...]], ...] = ()


# Reading ---------------------------------------------------------------------------------


def load_profile(source: str | None) -> Profile | None:
    """The policy that `--security-opt seccomp=SOURCE` names.

    None, `builtin` and `default` are our own file; `unconfined` is no policy (None is returned);
    text beginning with a brace is a profile itself; anything else is a file. Raises
    InvalidParameter, in Docker's words, when it cannot be read or means nothing.
    """
    if source in (None, "", "builtin", "default"):
        return _default_profile()
    assert source is not None
    if source == "unconfined":
        return None
    if source.lstrip().startswith("{"):
        return parse_profile(source)
    try:
        with open(source, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidParameter(
            f"opening seccomp profile ({source}) failed: open {source}: {reason.lower()}"
        ) from error
    return parse_profile(text)


@functools.cache
def _default_profile() -> Profile:
    file = resources.files("labkit.host.isolation") / "seccomp_default.json"
    return parse_profile(file.read_text(encoding="utf-8"))


def parse_profile(text: str) -> Profile:
    """A profile from its JSON text."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    if not isinstance(data, dict):
        raise InvalidParameter("Decoding seccomp profile failed: it is not a JSON object")
    if data.get("architectures") and data.get("archMap"):
        raise InvalidParameter(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    default = _verdict(data.get("defaultAction"), data.get("defaultErrnoRet"))
    rules = tuple(_rule(entry) for entry in _list(data, "syscalls"))
    return Profile(default, rules, _tables(data))


def _list(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidParameter(f"Decoding seccomp profile failed: {key} is not a list of objects")
    return value


def _verdict(action: object, errno: object) -> Verdict:
    if action not in _ACTIONS:
        hint = "actions are " + ", ".join(sorted(_ACTIONS))
        if action == "SCMP_ACT_NOTIFY":
            hint = "nobody listens for notifications here"
        raise InvalidParameter(f"invalid seccomp action: {action!r}", hint=hint)
    name = str(action).removeprefix("SCMP_ACT_")
    if name not in ("ERRNO", "TRACE"):
        return Verdict(name)
    if errno is None:
        return Verdict(name, _EPERM)
    if not isinstance(errno, int) or not 0 <= errno <= 0xFFFF:
        raise InvalidParameter(f"invalid seccomp errnoRet: {errno!r}")
    return Verdict(name, errno)


def _rule(entry: Mapping[str, Any]) -> Rule:
    names = entry.get("names") or []
    if entry.get("name"):
        if names:
            raise InvalidParameter(
                "both 'name' and 'names' are specified in the seccomp profile, "
                "use either 'name' or 'names'"
            )
        names = [entry["name"]]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidParameter("Decoding seccomp profile failed: names is not a list of strings")
    return Rule(
        tuple(names),
        _verdict(entry.get("action"), entry.get("errnoRet")),
        tuple(_test(test) for test in _list(entry, "args")),
        _condition(entry.get("includes")),
        _condition(entry.get("excludes")),
    )


def _test(entry: Mapping[str, Any]) -> ArgumentTest:
    index, comparison = entry.get("index", 0), entry.get("op")
    value, other = entry.get("value", 0), entry.get("valueTwo", 0)
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise InvalidParameter(f"invalid seccomp argument index: {index!r}")
    if comparison not in _COMPARISONS:
        raise InvalidParameter(f"invalid seccomp comparison: {comparison!r}")
    for number in (value, other):
        if not isinstance(number, int) or not 0 <= number <= _UINT64:
            raise InvalidParameter(f"invalid seccomp argument value: {number!r}")
    return ArgumentTest(index, str(comparison), value, other)


def _condition(data: object) -> Condition:
    if not data:
        return Condition()
    if not isinstance(data, dict):
        raise InvalidParameter("Decoding seccomp profile failed: a condition is not an object")
    kernel = None
    if text := data.get("minKernel"):
        kernel = _kernel_version(str(text))
    return Condition(frozenset(data.get("caps") or ()), frozenset(data.get("arches") or ()), kernel)


def _kernel_version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise InvalidParameter(f"invalid kernel version in seccomp profile: {text!r}")
    return int(match[1]), int(match[2])


def _tables(data: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    named: dict[str, list[str]] = {}
    for entry in _list(data, "archMap"):
        named[str(entry.get("architecture"))] = list(entry.get("subArchitectures") or ())
    if isinstance(flat := data.get("architectures"), list):
        named = {str(name): [str(other) for other in flat] for name in flat}
    found = []
    for machine, (scmp, _, _) in ARCHITECTURES.items():
        subs = [_SUB_ARCHITECTURES[s] for s in named.get(scmp, ()) if s in _SUB_ARCHITECTURES]
        found.append((machine, tuple(subs)))
    return tuple(found)


# Deciding --------------------------------------------------------------------------------


@functools.cache
def syscall_numbers(table: str) -> Mapping[str, int]:
    """Call names to numbers of `x86_64`, `i386` or `aarch64` (kernel ABI, up to Linux 6.17)."""
    file = resources.files("labkit.host.isolation") / "syscalls.json"
    tables: dict[str, dict[str, int]] = json.loads(file.read_text(encoding="utf-8"))
    if table not in tables:
        raise Unsupported(f"seccomp: no system call table for {table}")
    return tables[table]


def applicable_rules(
    profile: Profile, capabilities: Iterable[str], machine: str, kernel: tuple[int, int]
) -> tuple[Rule, ...]:
    """The rules that count for a container with these capabilities on this machine."""
    held = frozenset(capabilities)
    architecture = ARCHITECTURES[machine][1] if machine in ARCHITECTURES else machine
    return tuple(rule for rule in profile.rules if _counts(rule, held, architecture, kernel))


def _counts(rule: Rule, held: frozenset[str], architecture: str, kernel: tuple[int, int]) -> bool:
    wanted, barred = rule.includes, rule.excludes
    if wanted.architectures and architecture not in wanted.architectures:
        return False
    if not wanted.capabilities <= held:
        return False
    if wanted.min_kernel is not None and kernel < wanted.min_kernel:
        return False
    if architecture in barred.architectures or barred.capabilities & held:
        return False
    return barred.min_kernel is None or kernel < barred.min_kernel


def running_kernel() -> tuple[int, int]:
    """Version of the kernel, as two numbers."""
    return _kernel_version(os.uname().release)


def verdict(
    profile: Profile,
    capabilities: Iterable[str],
    name: str,
    arguments: Sequence[int] = (0, 0, 0, 0, 0, 0),
    *,
    machine: str | None = None,
    kernel: tuple[int, int] | None = None,
) -> Verdict:
    """What the policy does with one call. A rule without argument tests outranks one with them;
    among equals the first one counts."""
    rules = applicable_rules(
        profile, capabilities, machine or os.uname().machine, kernel or running_kernel()
    )
    mine = [rule for rule in rules if name in rule.names]
    for rule in mine:
        if not rule.tests:
            return rule.verdict
    padded = (*arguments, 0, 0, 0, 0, 0, 0)
    for rule in mine:
        if any(all(test.holds(padded) for test in tests) for tests in rule.alternatives):
            return rule.verdict
    return profile.default


def compile_profile(
    profile: Profile | None,
    capabilities: Iterable[str] = (),
    arch: str | None = None,
    *,
    kernel: tuple[int, int] | None = None,
) -> bytes | None:
    """A filter for seccomp(2): an array of struct sock_filter; None when there is no policy.

    `arch` is a machine name (`uname -m`), this one's by default. Compiled filters are kept, since
    most containers ask for the same. Raises Unsupported for an architecture without a table.
    """
    if profile is None:
        return None
    machine = arch or os.uname().machine
    if machine not in ARCHITECTURES:
        raise Unsupported(
            f"seccomp: no system call table for {machine}",
            hint="run with --security-opt seccomp=unconfined",
        )
    return _compiled(profile, frozenset(capabilities), machine, kernel or running_kernel())


@functools.lru_cache(maxsize=64)
def _compiled(
    profile: Profile, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> bytes:
    from labkit.host.isolation.seccomp_bpf import build_filter

    rules = applicable_rules(profile, capabilities, machine, kernel)
    tables = (machine, *dict(profile.tables).get(machine, ()))
    made = build_filter(profile.default, rules, tables)
    _SOURCES[made] = (profile.default, rules, tables)
    return made


_SOURCES: dict[bytes, tuple[Verdict, tuple[Rule, ...], tuple[str, ...]]] = {}
_SCMP_TABLES = {
    "i386": "SCMP_ARCH_X86",
    **{name: words[0] for name, words in ARCHITECTURES.items()},
}


def source_of(program: bytes) -> dict[str, Any]:
    """What a filter of ours was compiled from, as linux.seccomp of an OCI bundle has it: other
    runtimes compile for themselves. Raises Unsupported for a filter from elsewhere."""
    if program not in _SOURCES:
        raise Unsupported("the source of this system call filter is not known")
    default, rules, tables = _SOURCES[program]
    entries = []
    for rule in rules:
        for tests in rule.alternatives:
            arguments = [
                {"index": t.index, "value": t.value, "valueTwo": t.other, "op": t.comparison}
                for t in tests
            ]
            entry: dict[str, Any] = {"names": list(rule.names), **_action("action", rule.verdict)}
            entries.append({**entry, "args": arguments} if arguments else entry)
    return {
        **_action("defaultAction", default),
        "architectures": [_SCMP_TABLES[table] for table in tables],
        "syscalls": entries,
    }


def _action(key: str, verdict: Verdict) -> dict[str, Any]:
    found: dict[str, Any] = {key: f"SCMP_ACT_{verdict.action}"}
    if verdict.action in ("ERRNO", "TRACE"):
        found["errnoRet" if key == "action" else "defaultErrnoRet"] = verdict.errno
    return found
