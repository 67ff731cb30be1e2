"""What holds a running process, as the kernel states it: capabilities, seccomp, ids, closed paths.

Everything is read from /proc/PID (proc_pid_status(5), proc_pid_mountinfo(5)), never from what was
asked for. Where the two differ, this is the one that is true.
"""

from __future__ import annotations

import errno as errors
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import InvalidParameter, NotFound
from labkit.host.isolation.capabilities import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    names_from_mask,
)
from labkit.host.isolation.seccomp import (
    Profile,
    Rule,
    Verdict,
    applicable_rules,
    compile_profile,
    running_kernel,
    syscall_numbers,
)

__all__ = ["capability_catalogue", "confinement_of", "syscall_verdict"]

_SETS = {
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "effective": "CapEff",
    "bounding": "CapBnd",
    "ambient": "CapAmb",
}
_SECCOMP_MODES = ("disabled", "strict", "filter")
_MAX_LINES = 340  # of uid_map: more the kernel does not take (user_namespaces(7))


def capability_catalogue() -> dict[str, list[str]]:
    """Every capability by number, and the ones Docker leaves to a container's root."""
    return {"all": list(ALL_CAPABILITIES), "default": sorted(DEFAULT_CAPABILITIES)}


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise NotFound(f"process {pid} has ended") from error


def confinement_of(pid: int) -> dict[str, Any]:
    """Capability sets by name, seccomp mode and number of filters, no_new_privs, ids with their
    maps, and the paths of /proc and /sys that are masked or read-only.

    `pid` is the machine's number. Raises NotFound when the process has ended.
    """
    status = dict(
        line.split(":", 1) for line in _read(pid, "status").splitlines() if ":" in line
    )  # fmt: skip
    masked, readonly = _closed_paths(_read(pid, "mountinfo"))
    mode = int(status.get("Seccomp", "0"))
    return {
        "pid": pid,
        "capabilities": {
            name: _names(int(status.get(key, "0"), 16)) for name, key in _SETS.items()
        },
        "no_new_privs": status.get("NoNewPrivs", "0").strip() == "1",
        "seccomp": {
            "mode": _SECCOMP_MODES[mode] if mode < len(_SECCOMP_MODES) else str(mode),
            "filters": int(status.get("Seccomp_filters", "1" if mode == 2 else "0")),
        },
        "uid": int(status.get("Uid", "0").split()[0]),
        "gid": int(status.get("Gid", "0").split()[0]),
        "uid_map": _id_map(_read(pid, "uid_map")),
        "gid_map": _id_map(_read(pid, "gid_map")),
        "masked": masked,
        "readonly": readonly,
    }


def _names(mask: int) -> list[str]:
    found = names_from_mask(mask)
    return [name for name in ALL_CAPABILITIES if name in found]


def _id_map(text: str) -> list[dict[str, int]]:
    """Lines of uid_map: `count` ids from `inside` are those from `outside` in the parent."""
    rows = [[int(word) for word in line.split()] for line in text.splitlines()[:_MAX_LINES]]
    return [{"inside": row[0], "outside": row[1], "count": row[2]} for row in rows if len(row) == 3]


def _closed_paths(mountinfo: str) -> tuple[list[str], list[str]]:
    """Paths beneath /proc and /sys with something mounted over them: /dev/null or an empty
    read-only tmpfs hide (masked), the thing itself mounted read-only protects (read-only)."""
    masked, readonly = [], []
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        words, kind = fields.split(), rest.split(" ", 1)[0]
        if len(words) < 6 or not words[4].startswith(("/proc/", "/sys/")):
            continue
        point, root, options = words[4], words[3], words[5].split(",")
        if kind in ("tmpfs", "devtmpfs") and (root.endswith("/null") or "ro" in options):
            masked.append(point)
        elif kind == "proc" and "ro" in options:
            readonly.append(point)
    return masked, readonly


# -- the verdict on one system call -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Why:
    text: str
    capabilities: tuple[str, ...] = ()


def syscall_verdict(
    profile: Profile | None,
    capabilities: Iterable[str],
    name: str,
    arguments: Sequence[int] = (),
    *,
    machine: str | None = None,
) -> dict[str, Any]:
    """What the filter does with one call, found by running the very program the kernel was given.

    Keys: call, number, action (ALLOW, ERRNO, …), errno (its name or ""), allowed, because (the
    rule in words), capabilities (that would open it, in alphabetical order), instructions (of the
    filter, that were run). Raises InvalidParameter for a call that this machine does not know.
    """
    machine = machine or os.uname().machine
    number = syscall_numbers(machine).get(name)
    if number is None:
        raise InvalidParameter(
            f'there is no system call "{name}" on {machine}',
            hint="names are listed by syscalls(2), for example mount, unshare or keyctl",
        )
    held = frozenset(capabilities)
    program = compile_profile(profile, held, machine)
    if profile is None or program is None:
        action, number_of_error, steps = "ALLOW", 0, 0
        why = _Why("no filter is installed: every call goes through")
    else:
        from labkit.host.isolation.seccomp_run import run

        action, number_of_error, steps = run(program, machine, number, arguments)
        why = _why(profile, held, machine, name, allowed=action in ("ALLOW", "LOG"))
    return {
        "call": name,
        "number": number,
        "action": action,
        "errno": errors.errorcode.get(number_of_error, "") if number_of_error else "",
        "allowed": action in ("ALLOW", "LOG"),
        "because": why.text,
        "capabilities": list(why.capabilities),
        "instructions": steps,
    }


def _why(profile: Profile, held: frozenset[str], machine: str, name: str, *, allowed: bool) -> _Why:
    """Which rule decided, and what would have decided otherwise."""
    mine = [
        rule
        for rule in applicable_rules(profile, held, machine, running_kernel())
        if name in rule.names
    ]
    tested = any(rule.tests for rule in mine)
    opened = sorted(
        {
            capability
            for rule in profile.rules
            if name in rule.names and rule.verdict.allowed and not rule.tests
            for capability in rule.includes.capabilities - held
        }
    )
    if allowed:
        needed = sorted({one for rule in mine for one in rule.includes.capabilities})
        if needed:
            return _Why(f"allowed because the container holds {' or '.join(needed)}")
        return _Why(
            "allowed for these arguments; others are refused"
            if tested and not any(_always(rule) for rule in mine)
            else "on the list of calls that every container may make"
        )
    if opened:
        word = " or ".join(opened)
        return _Why(f"allowed only to a container that holds {word}", tuple(opened))
    if tested:
        return _Why("allowed for other arguments than these")
    if mine:
        return _Why("a rule of the policy refuses it by name")
    return _Why(f"not on the list; the policy's answer to everything else is {_says(profile)}")


def _always(rule: Rule) -> bool:
    return rule.verdict.allowed and not rule.tests


def _says(profile: Profile) -> str:
    verdict: Verdict = profile.default
    number = errors.errorcode.get(verdict.errno, "") if verdict.errno else ""
    return f"{verdict.action} {number}".strip()
