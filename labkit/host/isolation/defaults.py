"""What every Linux container gets unless it asks otherwise: mounts, devices, hidden paths.

The tables say what Docker Engine documents and does for Linux containers; the OCI runtime
specification (config-linux.md, "Default Filesystems" and "Default Devices") names the devices.
"""

from __future__ import annotations

from labkit.host.isolation.spec import Device, Mount

__all__ = [
    "DEFAULT_DEVICE_RULES",
    "DEFAULT_PATH",
    "DEFAULT_SHM_BYTES",
    "DEVICES",
    "DEVICE_LINKS",
    "MASKED_PATHS",
    "READONLY_PATHS",
    "default_environment",
    "default_mounts",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_BYTES = 64 << 20

MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""Files that tell about or act on the whole machine: covered by /dev/null or an empty folder.

`--security-opt systempaths=unconfined` and `--privileged` leave them open.
"""

READONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

DEVICES: tuple[Device, ...] = tuple(
    Device(path=path, source=path)
    for path in (
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
    )
)

DEVICE_LINKS: tuple[tuple[str, str], ...] = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
)
"""Symbolic links (path, target) below /dev."""

DEFAULT_DEVICE_RULES: tuple[str, ...] = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)
"""Which devices may be opened: all nodes may be made, only the harmless ones used."""


def default_mounts(
    *,
    privileged: bool = False,
    shm_bytes: int = DEFAULT_SHM_BYTES,
    cgroup: bool = True,
    private_ipc: bool = True,
) -> tuple[Mount, ...]:
    """Docker's mounts in the order they are made.

    `private_ipc` is false when /dev/shm and /dev/mqueue come from the host or another container
    (`--ipc host`, `--ipc container:…`): the caller then binds those. `cgroup` is false where no
    cgroup file system can be mounted (mode without cgroups).
    """
    readonly = not privileged
    mounts = [
        Mount("proc", "/proc", nosuid=True, nodev=True, noexec=True),
        Mount("tmpfs", "/dev", data="mode=755,size=65536k", nosuid=True),
        Mount(
            "devpts",
            "/dev/pts",
            data="newinstance,ptmxmode=0666,mode=0620,gid=5",
            nosuid=True,
            noexec=True,
        ),
        Mount("sysfs", "/sys", readonly=readonly, nosuid=True, nodev=True, noexec=True),
    ]
    if cgroup:
        mounts.append(
            Mount(
                "cgroup", "/sys/fs/cgroup", readonly=readonly, nosuid=True, nodev=True, noexec=True
            )
        )
    if private_ipc:
        mounts.append(Mount("mqueue", "/dev/mqueue", nosuid=True, nodev=True, noexec=True))
        mounts.append(
            Mount(
                "tmpfs",
                "/dev/shm",  # noqa: S108 - a path inside the container
                data=f"mode=1777,size={shm_bytes}",
                nosuid=True,
                nodev=True,
                noexec=True,
            )
        )
    return tuple(mounts)


def default_environment(*, hostname: str, tty: bool, home: str = "/root") -> tuple[str, ...]:
    """Variables Docker sets before the image's and the user's own."""
    variables = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}"]
    if tty:
        variables.append("TERM=xterm")
    variables.append(f"HOME={home}")
    return tuple(variables)
