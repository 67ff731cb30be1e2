"""What the shim does to make a group, decided before it starts (native/groups.c)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from labkit.host.isolation.cgroups.limits import NO_DEVICES, Setting

__all__ = ["GroupOrder", "refused_sentences"]

_REFUSED = "\x01"
_PROGRAM = "p"


@dataclass(frozen=True, slots=True)
class GroupOrder:
    """A group to be made (or, with `make` false, entered) below each of the lab's own folders.

    `folders` are numbers of CgroupDriver.bases; each write names its folder by position here.
    `device_rules` are for v2, where a program takes the place of the devices controller.
    """

    name: str
    folders: tuple[int, ...] = ()
    unified: bool = False
    writes: tuple[tuple[int, Setting], ...] = ()
    device_rules: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    make: bool = True

    def named(self, name: str) -> GroupOrder:
        return replace(self, name=name)


def refused_sentences(
    order: GroupOrder, lines: Iterable[str], *, unprivileged: bool
) -> tuple[list[str], list[str]]:
    """A shim's warnings as sentences about the group, and the lines that are about other things."""
    found: list[str] = []
    others: list[str] = []
    for line in lines:
        if not line.startswith(_REFUSED):
            others.append(line)
            continue
        what, _, number = line[1:].partition(" ")
        missing = NO_DEVICES if what == _PROGRAM else _missing(order.writes, what)
        # Inside a user namespace devices can neither be restricted nor made: mknod(2) is refused.
        if missing == NO_DEVICES and unprivileged and int(number) in (errno.EPERM, errno.EACCES):
            continue
        if missing and missing not in found:
            found.append(missing)
    return found, others


def _missing(writes: Sequence[tuple[int, Setting]], index: str) -> str:
    return writes[int(index)][1].missing if index.isdigit() and int(index) < len(writes) else ""
