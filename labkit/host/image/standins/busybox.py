"""busybox: the machine's own, or its shell and tools where it has none."""

from __future__ import annotations

import os
import re
from pathlib import Path

from labkit.base.errors import Unsupported
from labkit.host.image.standins.common import StandIn, add_accounts, add_skeleton
from labkit.host.image.standins.elf import closure, read_program
from labkit.host.image.standins.machine import (
    Source,
    add_programs,
    find_program,
    os_name,
    package_of,
)
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["TOOLS", "applets", "build_busybox", "find_busybox", "merge_usr"]

_PLACES = ("/bin/busybox", "/usr/bin/busybox", "/usr/lib/initramfs-tools/bin/busybox")
_PACKAGES = ("busybox-static", "busybox", "busybox-initramfs")

_TOOL_NAMES = (
    "[ awk base64 basename cat chgrp chmod chown chroot clear cmp cp cut date dd df diff dirname "
    "dmesg du echo egrep env expr false fgrep find fold free getopt grep groups gunzip gzip head "
    "hexdump hostname id ip kill killall less link ln logger ls md5sum mkdir mkfifo mknod mktemp "
    "more mount mv nice nl nohup nproc nsenter nslookup od paste pgrep pidof ping pivot_root pkill "
    "printenv printf ps pwd readlink realpath renice rev rm rmdir sed seq setsid sha1sum sha256sum "
    "sha512sum shuf sleep sort split ss stat stty su sync sysctl tac tail tar taskset tee test "
    "timeout top touch tr true truncate tty umount uname uniq unlink unshare uptime vi wc wget "
    "which who whoami xargs yes zcat"
)
TOOLS = tuple(_TOOL_NAMES.split())


def find_busybox() -> Path | None:
    """The machine's busybox; a static one is preferred."""
    found = [Path(place) for place in _PLACES if Path(place).is_file()]
    static = [path for path in found if (program := read_program(path)) and not program.needed]
    return (static or found or [None])[0]  # type: ignore[list-item]


def applets(binary: bytes) -> list[str]:
    """The commands a busybox binary knows, from its own table of sorted, NUL-ended names.

    Raises ValueError when the table is not where busybox has kept it since 1.00.
    """
    for match in re.finditer(rb"\0\[\0\[\[\0|\0(?:acpid|addgroup|adduser|arch|ash)\0", binary):
        names = re.match(
            rb"(?:[][a-z0-9._-]{1,30}\0)+", binary[match.start() + 1 : match.start() + 8192]
        )
        if names is None:
            continue
        words = [word.decode() for word in names[0].split(b"\0")[:-1]]
        if len(words) > 20 and "sh" in words and "ls" in words:
            return words
    raise ValueError("no table of applets")


def merge_usr(root: RootBuilder) -> None:
    """The links of a merged /usr, without which no loader is found."""
    for name in ("bin", "sbin", "lib", "lib64"):
        root.folder(f"usr/{name}")
        root.symlink(name, f"usr/{name}")


def build_busybox() -> StandIn:
    """Raises Unsupported when the machine has neither busybox nor a shell to copy."""
    root = RootBuilder()
    path = find_busybox()
    if path is not None:
        try:
            return _from_busybox(root, path)
        except ValueError:
            root = RootBuilder()
    return _from_tools(root)


def _from_busybox(root: RootBuilder, path: Path) -> StandIn:
    names = applets(path.read_bytes())
    add_skeleton(root)
    add_accounts(root, "/bin/sh")
    root.copy(path, "bin/busybox", 0o755)
    # As in the official image: one file, a hard link for each command.
    for name in names:
        root.hard_link(f"bin/{name}", "bin/busybox")
    root.symlink("usr/bin/env", "/bin/env")
    libraries, _ = closure([path])
    for library in libraries:
        root.copy(Path(os.path.realpath(library)), str(library), 0o755)
    source = package_of(path, _PACKAGES)
    return StandIn(
        root,
        [source],
        f"busybox of {source}, {len(names)} commands",
        {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        },
        ('CMD ["sh"]',),
    )


def _from_tools(root: RootBuilder) -> StandIn:
    shell = find_program("dash") or find_program("bash") or find_program("sh")
    if shell is None:
        raise Unsupported(
            "cannot build the busybox stand-in: this machine has no busybox and no shell to copy",
            hint="install busybox-static",
        )
    merge_usr(root)
    add_skeleton(root)
    add_accounts(root, "/bin/sh")
    programs = [path for name in TOOLS if (path := find_program(name)) is not None]
    add_programs(root, [shell, *programs])
    root.symlink("usr/bin/sh", shell.name)
    return StandIn(
        root,
        [Source(os_name(), "")],
        f"no busybox here: the shell and {len(programs)} tools of {os_name()}",
        {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        },
        ('CMD ["sh"]',),
    )
