"""Ids an ordinary user may use in a user namespace, and writing the maps (user_namespaces(7)).

With the setuid helpers newuidmap and newgidmap and a range in /etc/subuid the lab has many ids;
without them only one: root inside is the user outside, and files cannot belong to anybody else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from labkit.base.errors import SystemFailure
from labkit.host.isolation.spec import IdMapping

__all__ = ["root_mapping", "subordinate_ranges", "write_maps"]

Kind = Literal["uid", "gid"]


def subordinate_ranges(
    kind: Kind, *, user: str | None = None, file: Path | None = None
) -> list[tuple[int, int]]:
    """(first, count) of each range that /etc/subuid or /etc/subgid grants to this user."""
    uid = os.getuid()
    names = {str(uid)}
    if user is not None:
        names = {user}
    else:
        with contextlib.suppress(KeyError):
            names.add(pwd.getpwuid(uid).pw_name)
    found = []
    try:
        lines = (file or Path(f"/etc/sub{kind}")).read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if owner in names and first.isdecimal() and count.isdecimal() and int(count) > 0:
            found.append((int(first), int(count)))
    return found


def root_mapping(kind: Kind) -> tuple[IdMapping, ...]:
    """Root inside is this user; further ids follow from 1 up where they are granted and the
    helper that may map them is installed."""
    mine = os.getuid() if kind == "uid" else os.getgid()
    maps = [IdMapping(0, mine, 1)]
    if shutil.which(f"new{kind}map") is None:
        return tuple(maps)
    inside = 1
    for first, count in subordinate_ranges(kind):
        maps.append(IdMapping(inside, first, count))
        inside += count
    return tuple(maps)


def write_maps(pid: int, uids: Sequence[IdMapping], gids: Sequence[IdMapping]) -> None:
    """Give the user namespace of `pid` its maps; an empty one is left for later.

    Raises SystemFailure when that is refused.
    """
    try:
        if uids:
            _write(pid, "uid", uids)
        if len(gids) == 1 and gids[0].count == 1:
            # The kernel lets an unprivileged user map a group only where groups are frozen.
            with contextlib.suppress(OSError):
                _put(f"/proc/{pid}/setgroups", "deny")
        if gids:
            _write(pid, "gid", gids)
    except OSError as error:
        raise SystemFailure(
            f"cannot map ids of process {pid}: {error.strerror}",
            hint="ranges come from /etc/subuid and /etc/subgid, with newuidmap installed",
        ) from error


def _put(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _write(pid: int, kind: Kind, maps: Sequence[IdMapping]) -> None:
    try:
        lines = "".join(f"{m.inside} {m.outside} {m.count}\n" for m in maps)
        _put(f"/proc/{pid}/{kind}_map", lines)
    except PermissionError:
        helper = shutil.which(f"new{kind}map")
        if helper is None or len(maps) == 1:
            raise
        words = [str(n) for m in maps for n in (m.inside, m.outside, m.count)]
        done = subprocess.run(
            [helper, str(pid), *words], capture_output=True, text=True, check=False, timeout=10
        )
        if done.returncode != 0:
            raise SystemFailure(
                f"new{kind}map refused: {done.stderr.strip()}",
                hint=f"check the line of this user in /etc/sub{kind}",
            ) from None
