"""A few system calls that Python 3.11 does not offer, through ctypes.

For single-threaded helper processes only: unshare(2) with a user or pid namespace fails or
surprises in a threaded one. Each function raises OSError with the kernel's errno. The manual
page that describes it is named in its docstring.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from typing import Final

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "die_with_parent",
    "drop_all_capabilities",
    "drop_bounding",
    "forbid_new_privileges",
    "in_chroot",
    "loopback_up",
    "mount",
    "pivot_root",
    "set_dumpable",
    "setns",
    "umount",
    "unshare",
]

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 2

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move this process into new namespaces (unshare(2))."""
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare(0x{flags:x})")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace that an open file of /proc/PID/ns names (setns(2))."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), f"setns(0x{kind:x})")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _checked(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() or None,
            ctypes.c_ulong(flags),
            data.encode() or None,
        ),
        f"mount {source} on {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2); glibc has no wrapper for it."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"pivot_root: unknown machine {os.uname().machine}")
    _checked(
        _libc.syscall(ctypes.c_long(number), os.fsencode(new_root), os.fsencode(put_old)),
        f"pivot_root to {new_root}",
    )


def in_chroot() -> bool:
    """Whether `/` is another folder than the root of this mount namespace (chroot(2)).

    A child enters its own mount namespace anew, which leads to the true root (setns(2)), and
    compares. Without the right to do so nobody can tell: then False.
    """
    child = os.fork()
    if child == 0:
        outside = False
        try:
            here = os.stat("/")
            setns(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWNS)
            there = os.stat("/")
            outside = (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
        finally:
            os._exit(int(outside))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 1


def _prctl(option: int, argument: int, what: str) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero), what)


def die_with_parent(signal_number: int = 9) -> None:
    """Be killed when the parent ends (PR_SET_PDEATHSIG, prctl(2)); a change of ids clears it."""
    _prctl(_PR_SET_PDEATHSIG, signal_number, "set parent-death signal")


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may trace this one (PR_SET_DUMPABLE, prctl(2))."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable), "set dumpable")


def forbid_new_privileges() -> None:
    """No execve may grant privileges from here on (PR_SET_NO_NEW_PRIVS, prctl(2))."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "set no_new_privs")


def drop_bounding(number: int) -> None:
    """Take one capability out of the bounding set (PR_CAPBSET_DROP, prctl(2))."""
    _prctl(_PR_CAPBSET_DROP, number, f"drop capability {number}")


def drop_all_capabilities() -> None:
    """Empty every capability set, the bounding set included (capabilities(7))."""
    for number in range(64):
        try:
            drop_bounding(number)
        except OSError as error:
            if error.errno == 22:  # EINVAL: this kernel knows no more
                break
            raise
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, "clear ambient capabilities")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, sets), "capset")


def loopback_up() -> None:
    """Bring up `lo` of the present network namespace (netdevice(7): SIOCSIFFLAGS)."""
    request = struct.pack("16sh22x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, request)
