"""Signals that cannot hit a stranger, and process trees where there are no control groups."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

__all__ = ["descendants", "kill_all"]


def kill_all(pids: Iterable[int], members: Callable[[], Iterable[int]], number: int) -> None:
    """Signal each of `pids` that still is a member once its pidfd is open.

    Between reading a pid and kill(2) the process may end and its number go to another; a pidfd
    taken first and membership read again afterwards closes that gap.
    """
    handles: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(OSError):
                handles[pid] = os.pidfd_open(pid)
        still = set(members())
        for pid, handle in handles.items():
            if pid in still:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(handle, number)
    finally:
        for handle in handles.values():
            os.close(handle)


def _parents() -> dict[int, int]:
    """pid → parent pid of every process that can be seen."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command name may hold blanks and brackets: read on from its last bracket.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            found[int(name)] = int(fields[1])
    return found


def descendants(leader: int) -> list[int]:
    """`leader` and every process below it, ascending; empty when it is gone.

    Complete for a pid namespace's first process, which adopts its orphans (pid_namespaces(7)).
    """
    parents = _parents()
    if leader not in parents:
        return []
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found, queue = {leader}, [leader]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in found:
                found.add(child)
                queue.append(child)
    return sorted(found)
