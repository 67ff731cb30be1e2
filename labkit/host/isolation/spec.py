"""What a container is, as data: everything the C core needs to start a process, decided beforehand.

Policy (which capabilities, which mounts, which limits) is made above this floor; the core only
carries it out. The fields follow the OCI runtime specification's config.json where it has a word
for the thing (https://github.com/opencontainers/runtime-spec, config.md and config-linux.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

__all__ = [
    "NAMESPACE_KINDS",
    "CapabilitySets",
    "ContainerSpec",
    "Device",
    "ForeignCommand",
    "HostNamespaces",
    "IdMapping",
    "IoSpec",
    "Mount",
    "NamespaceChoice",
    "NamespaceKind",
    "ProcessSpec",
    "ResourceLimits",
    "Rlimit",
    "RootSpec",
    "Step",
    "ThrottleDevice",
]

NamespaceKind = Literal["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"]
NAMESPACE_KINDS: tuple[NamespaceKind, ...] = ("mnt", "pid", "ipc", "uts", "net", "cgroup", "user")


class NamespaceChoice(Enum):
    """Where one kind of namespace of a new process comes from."""

    NEW = "new"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class CapabilitySets:
    """The five sets of capabilities(7), each a frozenset of names such as `CAP_CHOWN`."""

    bounding: frozenset[str]
    permitted: frozenset[str]
    effective: frozenset[str]
    inheritable: frozenset[str] = frozenset()
    ambient: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One resource limit (setrlimit(2)); -1 is infinity. Name without its prefix: `nofile`."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class ForeignCommand:
    """Another OCI runtime's command lines in place of a start of ours (native/foreign.c).

    `make` creates a container, or runs a further process and stays with it; `go` lets a created one
    run. `hidden` is a mount that the runtime must not see.
    """

    make: tuple[str, ...]
    go: tuple[str, ...] = ()
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """The process to become. `user` ids are those seen inside the container's user namespace."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: CapabilitySets | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privs: bool = False
    seccomp: bytes | None = None
    """A classic BPF program for seccomp(2), compiled by `seccomp.compile_profile`."""
    umask: int = 0o022
    oom_score_adj: int | None = None
    tty: bool = False
    console_size: tuple[int, int] | None = None
    """Rows and columns of the pty at birth."""
    foreign: ForeignCommand | None = None


@dataclass(frozen=True, slots=True)
class RootSpec:
    """The root file system: an overlay (lowers, topmost first, and an upper) or a plain folder.

    `upper` and `work` are None for a read-only stack. `path` alone (no lowers) is used as it is.
    """

    lowers: tuple[Path, ...] = ()
    upper: Path | None = None
    work: Path | None = None
    path: Path | None = None
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount below the root, made in order. `target` is resolved beneath the root only.

    kind `bind` takes `source` (a path on the lab host); `tmpfs` takes `data` (size=…,mode=…);
    `proc`, `sysfs`, `devpts`, `mqueue`, `cgroup` take neither.
    """

    kind: Literal["bind", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup"]
    target: str
    source: str = ""
    data: str = ""
    readonly: bool = False
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False
    recursive: bool = True
    propagation: Literal["private", "rprivate", "slave", "rslave", "shared", "rshared"] = "rprivate"
    create: Literal["dir", "file", "no"] = "dir"
    """What to create at the target when nothing is there."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device node to offer under `path`, taken from `source` on the lab host."""

    path: str
    source: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class IdMapping:
    """One line of /proc/PID/uid_map (user_namespaces(7))."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class ThrottleDevice:
    """A block-device rate: bytes or operations per second for the device at `path`."""

    path: str
    rate: int


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Limits to put on a cgroup; None or 0 means unlimited, as in Docker's HostConfig."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    """memory + swap; -1 is unlimited swap (Docker's MemorySwap)."""
    memory_reservation_bytes: int = 0
    nano_cpus: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0
    read_bps: tuple[ThrottleDevice, ...] = ()
    write_bps: tuple[ThrottleDevice, ...] = ()
    read_iops: tuple[ThrottleDevice, ...] = ()
    write_iops: tuple[ThrottleDevice, ...] = ()
    oom_kill_disable: bool = False
    device_rules: tuple[str, ...] = ()
    """`c 1:3 rwm` lines; the default set is added by the cgroup driver."""


@dataclass(frozen=True, slots=True)
class HostNamespaces:
    """Descriptors of the lab host's namespaces, in which a container starts (design.md 14).

    They stay open in the daemon for as long as the host lives.
    """

    mnt: int
    net: int
    user: int | None = None
    anchor_pid: int = 0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container, complete. `namespaces`: for each kind new, host, or a descriptor to join."""

    id: str
    process: ProcessSpec
    root: RootSpec
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    namespaces: Mapping[NamespaceKind, NamespaceChoice | int] = field(default_factory=dict)
    uid_map: tuple[IdMapping, ...] = ()
    gid_map: tuple[IdMapping, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    init: bool = False
    """Put a tiny init at PID 1 that forwards signals and reaps (`--init`)."""
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class IoSpec:
    """Where a process's output goes. Attach clients are served by the shim besides."""

    log_path: Path | None = None
    """A json-file log; None keeps none (`--log-driver none`)."""
    log_max_bytes: int = -1
    log_max_files: int = 1
    open_stdin: bool = False
    stdin_once: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the core did while starting a process, for `%explain`.

    Times are CLOCK_MONOTONIC nanoseconds; `error` is an errno or 0.
    """

    name: str
    call: str
    detail: str
    start_ns: int
    end_ns: int
    by: Literal["daemon", "shim", "child"]
    error: int = 0
