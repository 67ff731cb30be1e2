"""debian and ubuntu: the machine's own GNU userland with the libraries it needs."""

from __future__ import annotations

import os
from pathlib import Path

from labkit.base.errors import Unsupported
from labkit.host.image.standins.busybox import TOOLS, merge_usr
from labkit.host.image.standins.common import (
    PATH,
    StandIn,
    add_accounts,
    add_skeleton,
    os_release,
)
from labkit.host.image.standins.machine import (
    Source,
    add_programs,
    find_program,
    os_name,
    package_programs,
)
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["build_debian", "build_ubuntu"]

_PACKAGES = (
    "bash",
    "bsdutils",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "login",
    "mawk",
    "mount",
    "ncurses-bin",
    "passwd",
    "procps",
    "sed",
    "sysvinit-utils",
    "tar",
    "util-linux",
    # Not in the official images, but what a lesson reaches for next.
    "iproute2",
    "iputils-ping",
    "less",
)
_TERMINALS = ("l/linux", "s/screen", "v/vt100", "x/xterm", "x/xterm-256color", "x/xterm-color")
_APT = """#!/bin/sh
# Part of labkit's stand-in image.
echo "E: this is a stand-in made of the lab machine's programs; it cannot install packages" >&2
echo "E: with a network, docker pull fetches the real image" >&2
exit 100
"""


def _build(release: dict[str, str], marks: dict[str, str]) -> StandIn:
    programs, sources = package_programs(_PACKAGES)
    if not programs:
        names = ("bash", "dash", "sh", *TOOLS)
        programs = [path for name in names if (path := find_program(name)) is not None]
        sources = [Source(os_name(), "")]
    bash = find_program("bash")
    if bash is None:
        raise Unsupported(
            f"cannot build the {release['ID']} stand-in: this machine has no bash",
            hint="install bash, or use busybox",
        )
    root = RootBuilder()
    merge_usr(root)
    add_skeleton(root)
    add_accounts(root, "/bin/bash")
    add_programs(root, programs)
    shell = find_program("dash")
    root.symlink("usr/bin/sh", "dash" if shell is not None else "bash")
    awk = find_program("mawk") or find_program("gawk")
    if awk is not None:
        add_programs(root, [awk])
        root.symlink("usr/bin/awk", Path(os.path.realpath(awk)).name)
    for name in _TERMINALS:
        for folder in ("/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"):
            path = Path(folder, name)
            if path.is_file():
                root.copy(Path(os.path.realpath(path)), f"usr/share/terminfo/{name}")
                break
    for name in ("apt", "apt-get"):
        root.text(f"usr/bin/{name}", _APT, 0o755)
    summary = f"{len(programs)} programs of {os_name()} with their libraries"
    root.text(
        "etc/os-release",
        os_release(
            {**release, "VARIANT": f"stand-in made of {summary}", "VARIANT_ID": "labkit-stand-in"}
        ),
    )
    for name, text in marks.items():
        root.text(name, text)
    root.text("etc/host.conf", "multi on\n")
    root.text("root/.bashrc", "PS1='${debian_chroot:+($debian_chroot)}\\u@\\h:\\w\\$ '\n")
    root.text("root/.profile", 'if [ -n "$BASH" ] && [ -f ~/.bashrc ]; then . ~/.bashrc; fi\n')
    defaults = {"Env": [PATH], "Cmd": ["/bin/bash"]}
    return StandIn(root, sources, summary, defaults, ('CMD ["/bin/bash"]',))


def build_debian() -> StandIn:
    """Raises Unsupported when the machine has no bash."""
    return _build(
        {
            "PRETTY_NAME": "Debian GNU/Linux 12 (labkit stand-in)",
            "NAME": "Debian GNU/Linux",
            "VERSION_ID": "12",
            "VERSION": "12 (bookworm)",
            "VERSION_CODENAME": "bookworm",
            "ID": "debian",
        },
        {"etc/debian_version": "12.0\n", "etc/issue": "labkit's stand-in for Debian \\n \\l\n"},
    )


def build_ubuntu() -> StandIn:
    """Raises Unsupported when the machine has no bash."""
    return _build(
        {
            "PRETTY_NAME": "Ubuntu 24.04 LTS (labkit stand-in)",
            "NAME": "Ubuntu",
            "VERSION_ID": "24.04",
            "VERSION": "24.04 LTS (Noble Numbat)",
            "VERSION_CODENAME": "noble",
            "ID": "ubuntu",
            "ID_LIKE": "debian",
            "UBUNTU_CODENAME": "noble",
        },
        {
            "etc/debian_version": "trixie/sid\n",
            "etc/lsb-release": "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\n"
            'DISTRIB_CODENAME=noble\nDISTRIB_DESCRIPTION="Ubuntu 24.04 LTS (labkit stand-in)"\n',
        },
    )
