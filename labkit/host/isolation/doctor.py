"""`labkit doctor`: what this machine has, what that means for the lab, and what to do about it.

Each check is a function that returns findings and changes nothing. The mode comes from probe.py;
here are the slower looks at versions, tools, folders and limits.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from labkit.base.paths import LabPaths
from labkit.host.isolation.capabilities import ALL_CAPABILITIES, names_from_mask
from labkit.host.isolation.cgroups.layout import find_layout
from labkit.host.isolation.idmap import subordinate_ranges
from labkit.host.isolation.probe import Finding, Probe, own_capabilities
from labkit.host.isolation.probe import probe as run_probe

__all__ = ["examine"]

_GIB = 1 << 30
_NEEDED_BYTES = 2 * _GIB
_NEEDED_FILES = 4096
_USEFUL_CAPABILITIES = frozenset({"CAP_SYS_RESOURCE", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_BPF"})


def examine(paths: LabPaths | None = None, probe: Probe | None = None) -> list[Finding]:
    """Every finding, the mode first. Takes some tens of milliseconds."""
    chosen = paths or LabPaths.from_environment()
    result = probe or run_probe(chosen)
    found = list(result.reasons)
    for check in _CHECKS:
        found.extend(check(result, chosen))
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _kernel(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del probe, paths
    if not sys.platform.startswith("linux"):
        return
    release = platform.release()
    digits = "".join(c if c.isdigit() else " " for c in release).split()
    version = tuple(int(part) for part in digits[:2])
    ok = version >= (5, 11)
    yield Finding(
        "kernel",
        ok,
        f"Linux {release}, {platform.machine()}",
        "" if ok else "overlay mounts for ordinary users came with Linux 5.11",
        "" if ok else "run as root, or use a newer kernel",
    )


def _privileges(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del paths
    if os.geteuid() != 0:
        yield Finding("user", True, f"uid {os.geteuid()}", "the lab runs without root")
        return
    held = names_from_mask(own_capabilities())
    missing = sorted(_USEFUL_CAPABILITIES - held)
    words = "root" if probe.initial_userns else "root of a user namespace"
    count = f"{words}, {len(held)} of {len(ALL_CAPABILITIES)} capabilities"
    meaning = ""
    if missing:
        meaning = f"without {', '.join(missing)} some limits and options are refused"
    yield Finding("user", True, count, meaning)


def _user_namespaces(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del paths
    problems = []
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        problems.append(
            ("user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=10000")
        )
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        fix = "sysctl -w kernel.unprivileged_userns_clone=1"
        problems.append(("kernel.unprivileged_userns_clone is 0", fix))
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        fix = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        problems.append(("AppArmor restricts user namespaces", fix))
    for found, fix in problems:
        meaning = "ordinary users cannot run containers" if os.geteuid() else ""
        yield Finding("user namespaces", probe.mode != "hollow", found, meaning, f"as root: {fix}")
    if not problems:
        limit = _read("/proc/sys/user/max_user_namespaces") or "no limit known"
        yield Finding("user namespaces", probe.userns, f"allowed, at most {limit}")


def _overlay(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    if probe.mode == "hollow":
        return
    kind = filesystem_type(paths.home)
    slower = "layers are copied for each container: slower, and more disk"
    if probe.attempts.get("overlay", 0) != 0:
        reason = os.strerror(probe.attempts["overlay"])
        yield Finding("overlay", False, reason, slower, "modprobe overlay, as root")
    elif not probe.overlay:
        found = f"not on {kind or 'the file system'} under {paths.home}"
        fix = "set LABKIT_HOME to a folder on ext4, xfs, btrfs or tmpfs"
        yield Finding("overlay", False, found, slower, fix)
    else:
        yield Finding("overlay", True, f"works; {paths.home} is on {kind or 'an unknown kind'}")


def filesystem_type(path: Path) -> str:
    """The type of the file system that holds `path` or its nearest existing parent."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    wanted = os.stat(existing).st_dev
    number = f"{os.major(wanted)}:{os.minor(wanted)}"
    for line in _read("/proc/self/mountinfo").splitlines():
        front, _, back = line.partition(" - ")
        if front.split(" ")[2:3] == [number]:
            return back.split(" ")[0]
    return ""


def _cgroups(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del paths
    wanted = {"memory", "cpu", "pids", "cpuset", "io"}
    missing = sorted(wanted - probe.controllers)
    if probe.cgroup == "none":
        there = find_layout().kind
        fix = "log in through systemd, or run as root"
        if there in ("v1", "hybrid"):
            fix = "cgroup v1 cannot be shared with ordinary users: run as root, or boot with v2"
        yield Finding(
            "cgroups",
            False,
            "none that this user may write" if there != "none" else "not mounted",
            "limits such as --memory are not enforced, each says so",
            fix,
        )
        return
    found = f"{probe.cgroup}: {', '.join(sorted(probe.controllers & wanted))}"
    meaning = f"no limits for {', '.join(missing)}" if missing else ""
    fix = ""
    if missing and os.geteuid() != 0:
        fix = "as root: systemctl edit user@.service, [Service] Delegate=cpu cpuset io memory pids"
    yield Finding("cgroups", not missing, found, meaning, fix)
    if probe.cgroup == "v2" and os.geteuid() != 0:
        session = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}", "bus")
        ok = session.exists() and shutil.which("busctl") is not None
        yield Finding(
            "systemd user session",
            ok,
            "there" if ok else "not there",
            "" if ok else "a delegated scope cannot be asked for",
            "" if ok else "loginctl enable-linger, then log in again",
        )


def _seccomp(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del paths
    yield Finding(
        "seccomp",
        probe.seccomp,
        "filters work" if probe.seccomp else "not in this kernel",
        "" if probe.seccomp else "containers run without a system call filter, and say so",
    )


def _ids(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del paths
    if probe.mode != "rootless":
        return
    helpers = all(shutil.which(f"new{kind}map") for kind in ("uid", "gid"))
    ranges = subordinate_ranges("uid")
    if helpers and ranges:
        yield Finding("sub-ids", True, f"{sum(count for _, count in ranges)} ids")
        return
    yield Finding(
        "sub-ids",
        False,
        "newuidmap is missing" if not helpers else "no range in /etc/subuid",
        "one id only: files cannot belong to another user, programs that switch users may fail",
        "as root: apt-get install uidmap; usermod --add-subuids 100000-165535 "
        "--add-subgids 100000-165535 USER",
    )


def _network(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del paths
    if probe.mode == "rootless":
        tool = next((name for name in ("pasta", "slirp4netns") if shutil.which(name)), "")
        yield Finding(
            "outbound network",
            bool(tool),
            tool or "neither pasta nor slirp4netns",
            "" if tool else "containers reach the lab only, not the outside",
            "" if tool else "as root: apt-get install passt (or slirp4netns)",
        )
        if tool and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            yield Finding(
                "tap devices",
                False,
                "/dev/net/tun cannot be opened by this user",
                f"{tool} cannot make the lab's way to the outside",
                "as root: modprobe tun; chmod 666 /dev/net/tun",
            )
    if "nftables" in probe.attempts:
        code = probe.attempts["nftables"]
        yield Finding(
            "nftables",
            code == 0,
            "works" if code == 0 else os.strerror(code),
            "" if code == 0 else "networks of containers and published ports do not work",
            "" if code == 0 else "as root: modprobe nf_tables",
        )


def _disk(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del probe
    existing = paths.home
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    ok = usage.free >= _NEEDED_BYTES
    yield Finding(
        "disk",
        ok,
        f"{usage.free / _GIB:.1f} GiB free for {paths.home}",
        "" if ok else "images may not fit",
        "" if ok else "free some space, or set LABKIT_HOME elsewhere",
    )
    writable = os.access(existing, os.W_OK | os.X_OK)
    if not writable:
        yield Finding(
            "LABKIT_HOME",
            False,
            f"{existing} is not writable",
            "the lab cannot keep its state",
            "set LABKIT_HOME and LABKIT_RUN to folders of yours",
        )


def _rlimits(probe: Probe, paths: LabPaths) -> Iterable[Finding]:
    del probe, paths
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = hard == resource.RLIM_INFINITY or hard >= _NEEDED_FILES
    yield Finding(
        "open files",
        ok,
        "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}",
        "" if ok else "many containers at once may fail",
        "" if ok else "raise the hard limit: ulimit -Hn, limits.conf(5)",
    )


_CHECKS: tuple[Callable[[Probe, LabPaths], Iterable[Finding]], ...] = (
    _kernel,
    _privileges,
    _user_namespaces,
    _overlay,
    _cgroups,
    _seccomp,
    _ids,
    _network,
    _disk,
    _rlimits,
)
