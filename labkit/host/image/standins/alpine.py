"""alpine: a busybox userland that looks as Alpine Linux does, with an `apk` of our own."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from labkit.host.image.standins.busybox import applets, build_busybox, find_busybox
from labkit.host.image.standins.common import (
    PATH,
    StandIn,
    add_accounts,
    add_skeleton,
    os_release,
)
from labkit.host.image.standins.elf import closure
from labkit.host.image.standins.machine import package_of
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["build_alpine"]

_VERSION = "3.20.0"
_SBIN_NAMES = (
    "adjtimex arp blkid blockdev brctl depmod fdisk findfs fsck fstrim getty halt hwclock ifconfig "
    "ifdown ifup init insmod ip ipcalc klogd loadkmap logread losetup lsmod mdev mkdosfs mke2fs "
    "mkswap modinfo modprobe nameif pivot_root poweroff reboot rmmod route run-init setconsole "
    "slattach start-stop-daemon sulogin swapoff swapon switch_root sysctl syslogd tunctl udhcpc "
    "vconfig watchdog"
)
_SBIN = frozenset(_SBIN_NAMES.split())


def build_alpine() -> StandIn:
    """Raises Unsupported when the machine offers no shell at all."""
    path = find_busybox()
    names: list[str] = []
    if path is not None:
        try:
            names = applets(path.read_bytes())
        except ValueError:
            path = None
    stand_in = build_busybox() if path is None else _from_busybox(path, names)
    root = stand_in.root
    root.text("etc/alpine-release", _VERSION + "\n")
    root.text(
        "etc/os-release",
        os_release(
            {
                "NAME": "Alpine Linux",
                "ID": "alpine",
                "VERSION_ID": _VERSION,
                "PRETTY_NAME": f"Alpine Linux v{_VERSION[:4]} (labkit stand-in)",
                "VARIANT": f"stand-in made of {stand_in.summary}",
                "VARIANT_ID": "labkit-stand-in",
            }
        ),
    )
    root.text("etc/issue", "Welcome to labkit's stand-in for Alpine Linux\n")
    apk = files("labkit.host.image.standins").joinpath("files", "apk.sh").read_text()
    root.text("sbin/apk", apk, 0o755)
    stand_in.defaults = {"Env": [PATH], "Cmd": ["/bin/sh"], "WorkingDir": "/"}
    stand_in.steps = ('CMD ["/bin/sh"]',)
    return stand_in


def _from_busybox(path: Path, names: list[str]) -> StandIn:
    root = RootBuilder()
    add_skeleton(root)
    add_accounts(root, "/bin/sh", "nobody")
    root.copy(path, "bin/busybox", 0o755)
    # As in Alpine: a symbolic link for each command, system commands in /sbin.
    for name in names:
        root.symlink(f"{'sbin' if name in _SBIN else 'bin'}/{name}", "/bin/busybox")
    root.symlink("usr/bin/env", "/bin/busybox")
    for folder in ("etc/apk", "lib/apk/db", "var/cache/apk", "media"):
        root.folder(folder)
    libraries, _ = closure([path])
    for library in libraries:
        root.copy(Path(os.path.realpath(library)), str(library), 0o755)
    source = package_of(path, ("busybox-static", "busybox", "busybox-initramfs"))
    return StandIn(root, [source], f"busybox of {source}, {len(names)} commands")
