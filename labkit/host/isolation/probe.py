"""What this machine lets labkit do, found out by trying it in a process that leaves nothing behind.

The mode is decided by a short-lived C helper (`labkit-shim anchor probe`) that makes the
namespaces and mounts an empty overlay; `labkit doctor` adds slower checks (doctor.py).
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labkit.base.errors import Unsupported
from labkit.base.paths import LabPaths
from labkit.host.isolation.cgroups.driver import usable_unified_base
from labkit.host.isolation.cgroups.layout import CgroupKind, Layout, find_layout

__all__ = ["Finding", "Mode", "Probe", "own_capabilities", "probe"]

Mode = Literal["rootful", "rootless", "hollow"]
_CAP_SYS_ADMIN = 21


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `labkit doctor`: what was looked at, whether it is well, what was found, what
    that means for the lab, and what to do about it."""

    name: str
    ok: bool
    found: str
    meaning: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """The machine as labkit can use it. `controllers` are those with a usable group tree, by
    their v2 names; `attempts` holds the errno of each thing tried (0 is success)."""

    mode: Mode
    cgroup: CgroupKind
    controllers: frozenset[str]
    overlay: bool
    userns: bool
    seccomp: bool
    reasons: tuple[Finding, ...] = ()
    initial_userns: bool = True
    mknod: bool = True
    attempts: dict[str, int] = field(default_factory=dict)


def own_capabilities() -> int:
    """The effective set of this process as a mask; 0 where /proc is missing."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return 0


def _nearest_existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _try(kind: Literal["user", "machine"], home: Path | None) -> dict[str, int]:
    """Names and errnos from the helper; empty when it could not run.

    The upper layer of an overlay cannot lie on every file system (on another overlay, for one),
    so it is tried where the lab's layers will be.
    """
    from labkit.host.isolation.anchor import shim_path

    done = subprocess.run(
        [shim_path(), "anchor", "probe", kind, *([] if home is None else [home])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=10,
        env={},
    )
    pairs = (line.split() for line in done.stdout.decode().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


_NEEDED = ("mnt", "net", "uts", "ipc", "pid", "private")
_WORDS = {
    "user": "user namespaces",
    "mnt": "mount namespaces",
    "net": "network namespaces",
    "uts": "uts namespaces",
    "ipc": "ipc namespaces",
    "pid": "pid namespaces",
    "private": "mounting",
}


def probe(paths: LabPaths | None = None) -> Probe:
    """Decide mode and features; takes some milliseconds and leaves nothing behind.

    `paths` names the lab's home, on whose file system overlays are tried; without it they are
    tried on a tmpfs.
    """
    home = None if paths is None else _nearest_existing(paths.home)
    layout = find_layout()
    kind, controllers = usable_cgroups(layout)
    seccomp = os.path.exists("/proc/sys/kernel/seccomp/actions_avail")
    privileged = os.geteuid() == 0 and bool(own_capabilities() >> _CAP_SYS_ADMIN & 1)
    if not sys.platform.startswith("linux"):
        return _hollow([_not_linux()], kind, controllers, seccomp=seccomp)
    try:
        attempts = _try("machine" if privileged else "user", home)
    except Unsupported as error:
        missing = Finding("native core", False, error.message, "no containers", error.hint or "")
        return _hollow([missing], kind, controllers, seccomp=seccomp)
    except (OSError, subprocess.SubprocessError) as error:
        broken = Finding("native core", False, str(error), "no containers", "reinstall labkit")
        return _hollow([broken], kind, controllers, seccomp=seccomp)
    refused = [
        _refusal(name, attempts.get(name, -1), attempts)
        for name in (("user",) if not privileged else ()) + _NEEDED
        if attempts.get(name, -1) != 0
    ]
    if refused:
        return _hollow(refused[:1], kind, controllers, seccomp=seccomp, attempts=attempts)
    mode: Mode = "rootful" if privileged else "rootless"
    return Probe(
        mode=mode,
        cgroup=kind,
        controllers=controllers,
        overlay=attempts.get("overlay_home", attempts.get("overlay")) == 0,
        userns=privileged or attempts.get("user") == 0,
        seccomp=seccomp,
        reasons=(
            Finding("mode", True, mode, "root" if privileged else "in a user namespace of yours"),
        ),
        initial_userns=in_initial_userns(),
        mknod=attempts.get("mknod") == 0,
        attempts=attempts,
    )


def usable_cgroups(layout: Layout) -> tuple[CgroupKind, frozenset[str]]:
    """The kind and the controllers that this process may use, without changing anything."""
    if layout.uses_unified:
        base = usable_unified_base(layout)
        if base is None:
            return "none", frozenset()
        try:
            offered = frozenset((base / "cgroup.controllers").read_text().split())
        except OSError:
            return "none", frozenset()
        return "v2", offered & {"memory", "cpu", "cpuset", "pids", "io"} | {"freezer"}
    usable = frozenset(
        "io" if name == "blkio" else name
        for name, mount in layout.v1.items()
        if os.access(mount, os.W_OK)
    )
    return (layout.kind if usable else "none"), usable


def in_initial_userns() -> bool:
    """Whether ids mean here what they mean to the machine."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except OSError:
        return True


def _hollow(
    reasons: list[Finding],
    kind: CgroupKind,
    controllers: frozenset[str],
    *,
    seccomp: bool,
    attempts: dict[str, int] | None = None,
) -> Probe:
    return Probe(
        mode="hollow",
        cgroup=kind,
        controllers=controllers,
        overlay=False,
        userns=False,
        seccomp=seccomp,
        reasons=tuple(reasons),
        attempts=attempts or {},
    )


def _not_linux() -> Finding:
    return Finding(
        "kernel",
        False,
        sys.platform,
        "containers are a feature of Linux; only the cluster chapters work here",
        "run labkit in a Linux virtual machine or on Binder",
    )


def _settings_against_user_namespaces() -> list[str]:
    """What to set so that ordinary users may make user namespaces; empty if all is set so."""
    wanted = (
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "10000"),
    )
    found = []
    for name, against, good in wanted:
        try:
            value = Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == against:
            found.append(f"{name}={good}")
    return found


def _refusal(name: str, code: int, attempts: dict[str, int]) -> Finding:
    reason = os.strerror(code) if code > 0 else "not tried"
    fix = "run as root, or in a virtual machine"
    if name == "user" or (attempts.get("user") == 0 and code in (1, 13)):
        settings = _settings_against_user_namespaces()
        if settings:
            fix = f"as root: sysctl -w {' '.join(settings)}"
        elif name == "user" and code == errno.EPERM:
            fix = (
                "the settings allow them; in a chroot the kernel never does (unshare(2)), nor may "
                "a container's filter: start labkit outside of it, or as root"
            )
    return Finding(
        _WORDS.get(name, name),
        False,
        reason,
        "containers cannot run; only the cluster chapters work here",
        fix,
    )
