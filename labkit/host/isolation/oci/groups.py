"""The control groups of a container: where config.json's cgroupsPath says (config-linux.md).

Looking, freezing and removing need nothing but the paths kept in the record, so that `state`,
`kill` and `delete` start quickly; making and limiting go through the isolation core's own classes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, SystemFailure, Unsupported

if TYPE_CHECKING:
    from labkit.host.isolation.cgroups import Cgroup
    from labkit.host.isolation.spec import ResourceLimits

__all__ = [
    "Groups",
    "freeze",
    "group_of",
    "is_frozen",
    "make_group",
    "members",
    "remove_groups",
    "wait_empty",
]

Groups = Mapping[str, Any]
"""`v1` maps controllers to folders, `unified` is the v2 folder or absent."""
_TOP = "labkit-oci"


def _folders(groups: Groups) -> Iterator[str]:
    yield from dict.fromkeys((groups.get("v1") or {}).values())
    if groups.get("unified"):
        yield groups["unified"]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def is_frozen(groups: Groups) -> bool:
    """Whether the container is paused."""
    if groups.get("unified"):
        return "frozen 1" in _read(f"{groups['unified']}/cgroup.events")
    folder = (groups.get("v1") or {}).get("freezer")
    return bool(folder) and _read(f"{folder}/freezer.state").startswith("FROZEN")


def members(groups: Groups) -> list[int]:
    """Pids of everything in the group, ascending."""
    v1 = groups.get("v1") or {}
    top = groups.get("unified") or v1.get("pids") or next(iter(v1.values()), "")
    found: set[int] = set()
    for folder, _, _ in os.walk(top):
        found.update(int(line) for line in _read(f"{folder}/cgroup.procs").split())
    return sorted(found - {0})


def remove_groups(groups: Groups, *, timeout_s: float = 5.0) -> None:
    """Remove the folders; whatever still runs inside is killed first. Raises SystemFailure."""
    left = [folder for folder in _folders(groups) if not _rmdir(folder)]
    if not left:
        return
    group_of("", groups).remove(timeout_s=timeout_s)
    left = [folder for folder in left if os.path.isdir(folder)]
    if left:
        raise SystemFailure(f"cannot remove cgroup {left[0]}: it is still in use")


def _rmdir(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def group_of(name: str, groups: Groups) -> Cgroup:
    """The groups as the isolation core's object."""
    from pathlib import Path

    from labkit.host.isolation.cgroups import Cgroup

    unified = groups.get("unified")
    v1 = {key: Path(value) for key, value in (groups.get("v1") or {}).items()}
    return Cgroup(name, v1, Path(unified) if unified else None)


def freeze(groups: Groups, *, frozen: bool) -> None:
    """Pause or resume. Raises Unsupported without a freezer."""
    group = group_of("", groups)
    if frozen:
        group.freeze()
    else:
        group.thaw()


def _place(path: str, name: str) -> str:
    """cgroupsPath below a hierarchy's top: an absolute one as it is, a relative one is ours."""
    if ":" in path and "/" not in path:
        raise Unsupported(
            f"cgroupsPath {path} asks for systemd's help",
            hint="use the cgroupfs manager: podman --cgroup-manager=cgroupfs",
        )
    chosen = path or f"/{_TOP}/{name}"
    parts = [part for part in chosen.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise InvalidParameter(f"invalid cgroupsPath {path!r}")
    return "/".join(parts if chosen.startswith("/") else [_TOP, *parts])


def make_group(
    name: str, path: str, resources: Mapping[str, Any] | None, limits: ResourceLimits
) -> tuple[Cgroup, dict[str, Any]]:
    """Make the folders and set the limits; the group and what a record keeps of it.

    What the machine does not offer becomes a warning of the group. Raises InvalidParameter for a
    value the kernel refuses, SystemFailure when the folders cannot be made.
    """
    from pathlib import Path

    from labkit.host.isolation.oci.placing import group_at

    group = group_at(_place(path, name), limits)
    for file, value in ((resources or {}).get("unified") or {}).items():
        if group.unified is None:
            raise Unsupported("linux.resources.unified needs cgroup v2")
        try:
            Path(group.unified, file).write_text(str(value))
        except OSError as error:
            group.remove(timeout_s=0.2)
            raise InvalidParameter(f"cannot set {file} to {value!r}: {error.strerror}") from error
    kept: dict[str, Any] = {"v1": {key: str(folder) for key, folder in group.v1.items()}}
    if group.unified is not None:
        kept["unified"] = str(group.unified)
    return group, kept


def wait_empty(groups: Groups, *, timeout_s: float = 5.0) -> bool:
    """Wait until nothing runs in the group any more."""
    deadline = time.monotonic() + timeout_s
    while members(groups):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
