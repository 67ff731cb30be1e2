"""The file system of a sandbox: read-only binds of programs, bounded tmpfs, and a pivot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from labkit.base import syscalls as sc
from labkit.notebook.grading.plan import LAB_HOME, LAB_IMAGES, STUDENT_HOME, Plan

__all__ = ["build_root", "locked_flags"]

_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def build_root(plan: Plan) -> None:
    """A small root of read-only binds and size-limited tmpfs; then move into it."""
    root = plan.mountpoint
    _to_the_true_root("/")
    sc.mount("none", "/", flags=sc.MS_REC | sc.MS_PRIVATE)
    os.chroot(".")  # back, should there be a chroot
    sc.mount("labkit", root, "tmpfs", sc.MS_NOSUID, "size=16m,mode=755")
    for folder in ("proc", "sys", "dev/shm", "dev/pts", "etc", "tmp", "run", "var/lib", "var/tmp"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for name in _NODES:
        Path(f"{root}/dev/{name}").touch()
        sc.mount(f"/dev/{name}", f"{root}/dev/{name}", flags=sc.MS_BIND)
    for name, target in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx"), ("stdin", "fd/0")):
        os.symlink(target, f"{root}/dev/{name}")
    os.symlink("fd/1", f"{root}/dev/stdout")
    os.symlink("fd/2", f"{root}/dev/stderr")
    for target, name in plan.links:
        os.symlink(target, root + name)
    _private_folders(plan, root)
    for source, target, readonly in plan.binds:
        _bind(source, root + target, readonly=readonly)
    os.makedirs(root + plan.cwd, exist_ok=True)
    for source, target in plan.copies:
        _copy(source, root + target)
    if plan.writable_images:
        _bind(plan.writable_images, root + LAB_IMAGES, readonly=False)
    for path, text in plan.files:
        Path(root + path).parent.mkdir(parents=True, exist_ok=True)
        Path(root + path).write_text(text, encoding="utf-8")
    if plan.id_base is not None:
        _give(root + STUDENT_HOME, plan.id_base)
        _give(root + LAB_HOME, plan.id_base, below=LAB_IMAGES)
    # The old proc and sys stay below the new ones: the kernel lets a user namespace mount
    # either only where a whole one can already be seen (mount_namespaces(7)).
    for name in ("proc", "sys"):
        sc.mount(f"/{name}", f"{root}/{name}", flags=sc.MS_BIND | sc.MS_REC)
    os.mkdir(f"{root}/.old")
    _to_the_true_root(root)
    sc.pivot_root(".", ".old")
    os.chdir("/")
    sc.umount("/.old", sc.MNT_DETACH)
    os.rmdir("/.old")
    sc.mount("none", "/", flags=sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | sc.MS_NOSUID)


def _to_the_true_root(folder: str) -> None:
    """Make the mount namespace's own root ours, and `folder` the working folder.

    They differ only in a chroot, where pivot_root would leave the whole machine above the new
    root, and the kernel then refuses user namespaces (unshare(2)).
    """
    here = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    # Entering the mount namespace one is in already leads to its root.
    sc.setns(own, sc.CLONE_NEWNS)
    os.fchdir(here)
    os.close(own)
    os.close(here)


def _private_folders(plan: Plan, root: str) -> None:
    """Everything that can be written, each with its own bound. Before the binds: an installation
    may stand below one of these names."""
    owner = plan.id_base if plan.id_base is not None else -1
    open_to_all = "1777"
    for name, size, mode in (
        ("/tmp", plan.disk_bytes, open_to_all),  # noqa: S108 - the sandbox's own
        ("/dev/shm", 64 << 20, open_to_all),  # noqa: S108
        ("/run", 16 << 20, "755"),
        (LAB_HOME, plan.lab_bytes, "700"),
        (STUDENT_HOME, plan.disk_bytes, "755"),
    ):
        _tmpfs(root + name, size, mode, owner)


def _bind(source: str, target: str, *, readonly: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    sc.mount(source, target, flags=sc.MS_BIND | sc.MS_REC)
    if readonly:
        kept = locked_flags(target)
        sc.mount("none", target, flags=sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | kept)


def locked_flags(path: str) -> int:
    """Flags that a remount in a user namespace must repeat, or it is refused."""
    found = os.statvfs(path).f_flag
    pairs = (
        (os.ST_NOSUID, sc.MS_NOSUID),
        (os.ST_NODEV, sc.MS_NODEV),
        (os.ST_NOEXEC, sc.MS_NOEXEC),
        (os.ST_NOATIME, 0x400),
        (os.ST_NODIRATIME, 0x800),
        (os.ST_RELATIME, 0x200000),
    )
    return sum(flag for seen, flag in pairs if found & seen)


def _tmpfs(target: str, size: int, mode: str, owner: int) -> None:
    os.makedirs(target, exist_ok=True)
    data = f"size={size},mode={mode},nr_inodes={max(size // 4096, 1024)}"
    sc.mount("labkit", target, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, data)
    if owner >= 0:
        os.chown(target, owner, owner)


def _copy(source: str, target: str) -> None:
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)


def _give(top: str, owner: int, *, below: str = "") -> None:
    """Make `owner` the owner of all that stands in `top`, but leave what is in `below` alone."""
    for folder, folders, files in os.walk(top):
        if below and folder.endswith(below):
            folders.clear()
            continue
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), owner, owner, follow_symlinks=False)
