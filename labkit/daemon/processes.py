"""Processes and the namespaces they live in, read from /proc.

Only processes of the lab are described (containers, boxes, shims, the anchor, the daemon) and the
machine's first process; everything else on the machine is nobody's business and only counted.
A process may vanish between two reads: then it is simply not in the picture.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Owner",
    "ProcessTable",
    "describe",
    "describe_all",
    "families",
    "namespaces_of",
    "proc_field",
    "process_table",
    "read_proc",
]

KINDS = ("mnt", "pid", "ipc", "uts", "net", "cgroup", "user")
_ARGUMENTS_MAX = 64
_ARGUMENT_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose process it is: kind host, anchor, labkit, shim, container, exec or box."""

    kind: str
    id: str = ""
    name: str = ""
    image: str = ""

    def to_json(self) -> dict[str, str]:
        """As the lab API says it."""
        return {"kind": self.kind, "id": self.id, "name": self.name, "image": self.image}


@dataclass(slots=True)
class ProcessTable:
    """Parents of every process visible here, from one walk through /proc."""

    parents: dict[int, int] = field(default_factory=dict)

    def children(self) -> dict[int, list[int]]:
        """Pids by their parent."""
        found: dict[int, list[int]] = {}
        for pid, parent in self.parents.items():
            found.setdefault(parent, []).append(pid)
        return found


def read_proc(pid: int, name: str) -> str:
    """The text of /proc/PID/NAME, "" when it cannot be read (any more)."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def namespaces_of(pid: int | str) -> dict[str, int]:
    """Inode numbers of /proc/PID/ns/*, by kind; {} when the process is gone or not ours to see."""
    found = {}
    for kind in KINDS:
        try:
            link = os.readlink(f"/proc/{pid}/ns/{kind}")
        except OSError:
            continue
        found[kind] = int(link.partition("[")[2].rstrip("]"))
    return found


def process_table() -> ProcessTable:
    """Every process this daemon can see."""
    table = ProcessTable()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            tail = read_proc(int(entry), "stat").rpartition(")")[2].split()
            if len(tail) > 1 and tail[0] not in ("Z", "X"):
                table.parents[int(entry)] = int(tail[1])
    return table


def families(table: ProcessTable, owners: Mapping[int, Owner]) -> dict[int, Owner]:
    """`owners` extended to descendants: a process belongs to its nearest owned ancestor.

    Containers' processes are named by their cgroup already; this finds the children of boxes and
    of commands run on the lab host. The daemon's and the machine's children stay unowned.
    """
    children = table.children()
    found = dict(owners)
    waiting = [
        pid for pid, owner in owners.items() if owner.kind not in ("host", "labkit", "anchor")
    ]
    while waiting:
        pid = waiting.pop()
        owner = found[pid]
        for child in children.get(pid, ()):
            if child not in found:
                kind = "container" if owner.kind == "shim" else owner.kind
                found[child] = Owner(kind, owner.id, owner.name, owner.image)
                waiting.append(child)
    return found


def proc_field(status: str, name: str) -> list[str]:
    """The values of one line of /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith(name + ":"):
            return line.partition(":")[2].split()
    return []


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def describe(pid: int, owner: Owner) -> dict[str, Any] | None:
    """One process as the namespaces view shows it; None when it has gone."""
    status = read_proc(pid, "status")
    if not status:
        return None
    words = read_proc(pid, "cmdline").rstrip("\0").split("\0")
    args = [word[:_ARGUMENT_CHARS_MAX] for word in words[:_ARGUMENTS_MAX] if words != [""]]
    name = " ".join(proc_field(status, "Name"))
    if owner.kind == "host":
        args = []  # its command line may hold what the machine's owner would not show
    namespaces = namespaces_of(pid)
    # The outermost number first. Where pids are those of a nested /proc, NSpid starts there.
    pids = [int(number) for number in proc_field(status, "NSpid")] or [pid]
    uids = proc_field(status, "Uid")
    parents = proc_field(status, "PPid")
    if not uids or not parents:
        return None
    return {
        "pid": pid,
        "ppid": int(parents[0]),
        "command": name,
        "args": args,
        "user": _user(int(uids[1])),
        "owner": owner.to_json(),
        "pids": pids,
        "namespaces": namespaces,
    }


def describe_all(owners: Mapping[int, Owner]) -> tuple[list[dict[str, Any]], int]:
    """All owned processes with their descendants, by pid, and how many others there are."""
    table = process_table()
    owned = families(table, {pid: who for pid, who in owners.items() if pid in table.parents})
    found = [entry for pid in sorted(owned) if (entry := describe(pid, owned[pid])) is not None]
    return found, len(table.parents) - len(found)
