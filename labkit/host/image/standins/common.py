"""Files that every stand-in shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labkit.host.image.standins.machine import Source
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["PATH", "Account", "StandIn", "add_accounts", "add_skeleton", "os_release"]

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class StandIn:
    """A root file system and what containers of it inherit."""

    root: RootBuilder
    sources: list[Source]
    summary: str
    """One line: what it is made of, said when it is pulled."""
    defaults: dict[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    """Instructions after the ADD, for `docker history`."""
    base: StandIn | None = None
    """The stand-in whose layer lies below this one's."""

    def chain(self) -> list[StandIn]:
        """This stand-in and those below it, lowest first."""
        return [*(self.base.chain() if self.base is not None else ()), self]


_ACCOUNTS = (
    ("root", 0, "/root", ""),
    ("daemon", 1, "/usr/sbin", "/bin/false"),
    ("bin", 2, "/bin", "/bin/false"),
    ("sys", 3, "/dev", "/bin/false"),
    ("mail", 8, "/var/spool/mail", "/bin/false"),
    ("www-data", 33, "/var/www", "/bin/false"),
    ("nobody", 65534, "/nonexistent", "/bin/false"),
)
_GROUPS = (("adm", 4), ("tty", 5), ("disk", 6), ("wheel", 10), ("users", 100))


Account = tuple[str, int, str, str]
"""Name, number (of the user and of its group), home, shell."""


def add_accounts(
    root: RootBuilder, shell: str, nogroup: str = "nogroup", extra: tuple[Account, ...] = ()
) -> None:
    """/etc/passwd, group and shadow; nobody can log in with a password."""
    passwd = shadow = ""
    groups = dict(_GROUPS)
    for name, uid, home, own_shell in (*_ACCOUNTS, *extra):
        passwd += f"{name}:x:{uid}:{uid}:{name}:{home}:{own_shell or shell}\n"
        shadow += f"{name}:*:19000:0:99999:7:::\n"
        groups[nogroup if name == "nobody" else name] = uid
    group = "".join(
        f"{name}:x:{gid}:\n" for name, gid in sorted(groups.items(), key=lambda item: item[1])
    )
    root.text("etc/passwd", passwd)
    root.text("etc/group", group)
    root.text("etc/shadow", shadow, 0o640, gid=groups.get("shadow", 0))


def add_skeleton(root: RootBuilder) -> None:
    """Folders any program may expect, and name resolution by files first."""
    for path in (
        "dev",
        "etc",
        "home",
        "mnt",
        "opt",
        "proc",
        "run",
        "srv",
        "sys",
        "usr/bin",
        "var/log",
    ):
        root.folder(path)
    for path in ("usr/local/bin", "usr/sbin", "var/cache", "var/lib", "var/spool/mail", "var/www"):
        root.folder(path)
    root.folder("root", 0o700)
    root.folder("tmp", 0o1777)
    root.folder("var/tmp", 0o1777)
    root.symlink("var/run", "/run")
    root.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    root.text("etc/shells", "/bin/sh\n")


def os_release(fields: dict[str, str]) -> str:
    """The text of an os-release file (os-release(5))."""
    return "".join(f'{key}="{value}"\n' for key, value in fields.items())
