"""Defences of the start that another one usually covers: each is met here by itself.

Every test was seen to fail in a build without the line that it is about, which is named in its
docstring (native/…: what was taken out).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import select
import signal
from pathlib import Path
from typing import Any

import pytest
from isolation_kit import ALL_NEW, Host, has_all_ids, read_proc

from labkit.host.isolation import defaults, wire
from labkit.host.isolation.capabilities import ALL_CAPABILITIES
from labkit.host.isolation.native import syscall_number
from labkit.host.isolation.runtime import ContainerStartFailure, ExitStatus
from labkit.host.isolation.spec import (
    CapabilitySets,
    IdMapping,
    IoSpec,
    Mount,
    NamespaceChoice,
    ProcessSpec,
)

EVERY = frozenset(ALL_CAPABILITIES)
ALL_SETS = CapabilitySets(EVERY, EVERY, EVERY)
OWN_USERS: dict[str, Any] = {
    "namespaces": {**ALL_NEW, "user": NamespaceChoice.NEW},
    "uid_map": (IdMapping(0, 100_000, 65_536),),
    "gid_map": (IdMapping(0, 100_000, 65_536),),
}
_JOIN_SESSION, _SESSION = 1, -3


def keyctl(*arguments: int) -> int:
    number = syscall_number("keyctl")
    assert number is not None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return int(call(ctypes.c_long(number), *map(ctypes.c_long, arguments)))


# The process that is about to become the container's ------------------------------------------


@pytest.mark.user_namespaces
async def test_root_of_a_user_namespace_cannot_look_into_an_exec_that_is_set_up(
    host: Host, image: Path
) -> None:
    """native/nursery.c, launch.c, child.c: PR_SET_DUMPABLE.

    In its own user namespace the container's root has every capability over the process that joins
    it, and could read the runtime's memory and descriptors, were it not for this.
    """
    if not has_all_ids():
        pytest.skip("needs more ids than this user namespace has")
    host.folder.chmod(0o755)
    options: dict[str, Any] = {"capabilities": ALL_SETS, "seccomp": None}
    spec = host.spec("sleep", "100", lower=image, **options, **OWN_USERS)
    for folder in ("upper", "work"):
        os.chown(host.place(spec) / folder, 100_000, 100_000)
    target = await host.start(spec)
    place = host.folder / "held"
    place.mkdir(mode=0o700)
    process = ProcessSpec(("true",), env=("PATH=/bin",), capabilities=ALL_SETS)
    held = await host.runtime.exec(target, process, IoSpec(), place, hold=True)
    inside = re.findall(r"NSpid:.*\t(\d+)", read_proc(held.init_pid, "status").decode())[0]
    script = (
        f"cd /proc/{inside} || exit 1; (ls fd; readlink exe; readlink root; head -c 1 mem)"
        " 2>/dev/null; echo end"
    )
    looked = await host.exec(target, "sh", "-c", script, **options)
    assert looked.stdout == "end\n"
    await host.finish(held)


async def test_the_container_has_a_session_keyring_of_its_own(host: Host, armed: Path) -> None:
    """native/child.c: KEYCTL_JOIN_SESSION_KEYRING. Keys of the daemon's session stay there."""
    ours = keyctl(_JOIN_SESSION, 0)
    if ours < 0:
        pytest.skip("this kernel has no keyrings")
    number = syscall_number("keyctl")
    shim = await host.start(
        host.spec(
            "rawcall",
            str(number),
            "0",
            str(_SESSION),
            "0",
            lower=armed,
            seccomp=None,
            env=("PATH=/bin", "RESULT=1"),
        ),
        hold=True,
    )
    found = await host.finish(shim)
    assert int(found.stdout) > 0
    assert int(found.stdout) != ours


async def test_every_descriptor_of_the_setup_ends_with_it(host: Host) -> None:
    """native/child.c: close_range, the net below close-on-exec at birth."""
    shim = await host.start(host.spec("true"), hold=True)
    for name in os.listdir(f"/proc/{shim.init_pid}/fdinfo"):
        text = read_proc(shim.init_pid, f"fdinfo/{name}").decode()
        flags = int(re.findall(r"flags:\t(\d+)", text)[0], 8)
        assert int(name) <= 2 or flags & os.O_CLOEXEC, name
    await host.finish(shim)


# Kernel parameters ----------------------------------------------------------------------------


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that sends whatever name it was given."""
    monkeypatch.setattr(wire, "_sysctl", lambda spec, key: key.encode() + b"\0")


@pytest.mark.usefixtures("unchecked")
async def test_the_core_refuses_a_climbing_sysctl_name_too(host: Host) -> None:
    """native/child.c: the search for `..` in set_sysctl."""
    with pytest.raises(ContainerStartFailure, match="set kernel parameter"):
        await host.run("true", sysctls={"net/../kernel/domainname": "x"})


async def test_a_parameter_is_not_written_into_an_images_file(host: Host, image: Path) -> None:
    """native/child.c: PROC_SUPER_MAGIC in set_sysctl. Without a /proc of ours it is the image's."""
    planted = image / "proc/sys/net/ipv4/ip_forward"
    planted.parent.mkdir(parents=True)
    planted.write_text("planted")
    with pytest.raises(ContainerStartFailure, match="/proc is not procfs"):
        await host.run(
            "true", lower=image, mounts=(), devices=(), sysctls={"net.ipv4.ip_forward": "1"}
        )
    assert planted.read_text() == "planted"


async def test_a_parameter_is_not_written_through_a_link(host: Host, image: Path) -> None:
    """native/child.c: RESOLVE_NO_SYMLINKS in set_sysctl. The image decides where /proc leads."""
    (image / "elsewhere").mkdir()
    (image / "proc").symlink_to("elsewhere")
    mounts = (Mount("proc", "/elsewhere"),)
    with pytest.raises(ContainerStartFailure, match="set kernel parameter"):
        await host.run(
            "true", lower=image, mounts=mounts, devices=(), sysctls={"net.ipv4.ip_forward": "1"}
        )


# The old root ---------------------------------------------------------------------------------


async def test_nothing_of_the_old_root_is_mounted_any_more(host: Host) -> None:
    """native/rootfs.c: umount2(MNT_DETACH) after pivot_root."""
    found = await host.sh("cat /proc/self/mountinfo")
    mounts = [line.split() for line in found.stdout.splitlines()]
    assert [fields[4] for fields in mounts].count("/") == 1
    known = {mount.target for mount in defaults.default_mounts()} | {"/"}
    for fields in mounts:
        below = any(fields[4].startswith(target + "/") for target in known if target != "/")
        assert fields[4] in known or below, fields[4]


async def test_a_container_does_not_outlive_its_shim_though_nobody_else_ends_it(
    host: Host,
) -> None:
    """native/child.c: PR_SET_PDEATHSIG."""
    shim = await host.start(host.spec("sleep", "100"))
    host.shims.remove(shim)
    handle = os.pidfd_open(shim.init_pid)
    shim.detach()
    os.kill(shim.pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = await asyncio.to_thread(poll.poll, 10_000)
    os.close(handle)
    left = await host.runtime.recover(shim.directory)  # this would end it
    assert isinstance(left, ExitStatus)
    assert ended
