"""Capability names (capabilities(7)), Docker's default set, and `--cap-add` / `--cap-drop`.

The numbers are kernel ABI (include/uapi/linux/capability.h): a name's place in the table is its
bit. The inheritable set of a container stays empty: a non-empty one lets an unprivileged user of
the container pick capabilities up from a file that carries them (CVE-2022-29162).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.spec import CapabilitySets

__all__ = [
    "ALL_CAPABILITIES",
    "CAPABILITY_NUMBERS",
    "DEFAULT_CAPABILITIES",
    "capability_mask",
    "capability_sets",
    "choose_capabilities",
    "names_from_mask",
    "normalize_capability",
]

_IN_ORDER = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]

CAPABILITY_NUMBERS: dict[str, int] = {f"CAP_{name}": bit for bit, name in enumerate(_IN_ORDER)}
"""Name to bit, all 41 of Linux 5.9 and later."""

ALL_CAPABILITIES: tuple[str, ...] = tuple(CAPABILITY_NUMBERS)

DEFAULT_CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What Docker grants a container that asks for nothing (its documentation, "Runtime privilege")."""

_ALL = "ALL"


def normalize_capability(text: str) -> str:
    """`net_admin`, `CAP_NET_ADMIN` and `Net_Admin` are all `CAP_NET_ADMIN`; `all` is `ALL`.

    Raises InvalidParameter for a name the kernel does not have, in Docker's words.
    """
    upper = text.strip().upper()
    if upper in (_ALL, "CAP_ALL"):
        return _ALL
    name = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if name not in CAPABILITY_NUMBERS:
        raise InvalidParameter(
            f'unknown capability: "{text}"',
            hint="names are listed by capabilities(7), for example NET_ADMIN",
        )
    return name


def choose_capabilities(
    add: Sequence[str] = (), drop: Sequence[str] = (), *, privileged: bool = False
) -> frozenset[str]:
    """The set a container gets for its `--cap-add` and `--cap-drop` flags.

    Docker's rules: privileged means all and ignores both lists; `--cap-add ALL` starts from all,
    `--cap-drop ALL` from none; a capability both dropped and added is added only when ALL was
    dropped.
    """
    added = [normalize_capability(name) for name in add]
    dropped = [normalize_capability(name) for name in drop]
    if privileged:
        return frozenset(ALL_CAPABILITIES)
    if _ALL in added:
        return frozenset(ALL_CAPABILITIES) - frozenset(dropped)
    if _ALL in dropped:
        return frozenset(added)
    return (frozenset(DEFAULT_CAPABILITIES) | frozenset(added)) - frozenset(dropped)


def capability_sets(
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    *,
    privileged: bool = False,
    uid: int = 0,
    available: frozenset[str] | None = None,
) -> CapabilitySets:
    """The five sets for a process of `uid`, limited to what the machine can give (`available`).

    A process that is not root keeps the bounding set, so that a set-user-id program may still
    gain what the container as a whole may have, and holds nothing itself.
    """
    chosen = choose_capabilities(add, drop, privileged=privileged)
    if available is not None:
        chosen &= available
    held = chosen if uid == 0 else frozenset[str]()
    return CapabilitySets(bounding=chosen, permitted=held, effective=held)


def capability_mask(names: Iterable[str]) -> int:
    """The bits that capset(2) and /proc/PID/status use."""
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITY_NUMBERS[name]
    return mask


def names_from_mask(mask: int) -> frozenset[str]:
    """The inverse of `capability_mask`; bits newer than this table are left out."""
    return frozenset(name for name, bit in CAPABILITY_NUMBERS.items() if mask >> bit & 1)
