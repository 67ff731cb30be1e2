"""Known ways out of a container, each named after what must hold instead."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from isolation_kit import ALL_NEW, Host, process_state

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.capabilities import ALL_CAPABILITIES
from labkit.host.isolation.native import shim_path, syscall_number
from labkit.host.isolation.runtime import ContainerStartFailure
from labkit.host.isolation.spec import CapabilitySets, Mount, NamespaceChoice

EVERY = frozenset(ALL_CAPABILITIES)
PRIVILEGED = {
    "capabilities": CapabilitySets(EVERY, EVERY, EVERY),
    "seccomp": None,
    "masked_paths": (),
    "readonly_paths": (),
}


# The program itself --------------------------------------------------------------------------


async def test_the_runtime_cannot_be_overwritten_through_proc_1_exe(host: Host) -> None:
    """CVE-2019-5736, with every capability: PID 1 of --init is our own program."""
    found = await host.sh(
        "readlink /proc/1/exe; (echo owned > /proc/1/exe) 2>/dev/null || echo refused",
        init=True,
        **PRIVILEGED,
    )
    assert found.stdout.split("\n")[0].startswith("/memfd:labkit-shim")
    assert found.stdout.split()[-1] == "refused"


async def test_the_running_shims_file_is_sealed_against_everyone(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    with pytest.raises(OSError, match=r"Text file busy|not permitted"):
        os.open(f"/proc/{shim.pid}/exe", os.O_WRONLY)
    handle = os.open(f"/proc/{shim.pid}/exe", os.O_RDONLY)
    seals = fcntl.fcntl(handle, fcntl.F_GET_SEALS)
    os.close(handle)
    assert seals & fcntl.F_SEAL_WRITE
    assert seals & fcntl.F_SEAL_SEAL


def test_the_shim_loads_no_library_that_an_image_could_bring() -> None:
    """CVE-2019-14271: no interpreter, hence no dynamic linker, no NSS module."""
    data = shim_path().read_bytes()
    offset, size, count = (
        struct.unpack_from("=Q", data, 32)[0],
        *struct.unpack_from("=HH", data, 54),
    )
    types = [struct.unpack_from("=I", data, offset + i * size)[0] for i in range(count)]
    assert 3 not in types  # PT_INTERP


async def test_a_process_about_to_join_cannot_be_traced_or_read(host: Host) -> None:
    shim = await host.start(host.spec("true"), hold=True)
    mode = os.stat(f"/proc/{shim.init_pid}/mem")
    assert mode.st_uid == 0


# Descriptors ---------------------------------------------------------------------------------


async def test_no_descriptor_of_the_host_leaks_in(host: Host) -> None:
    found = await host.sh("ls /proc/self/fd")
    assert found.stdout.split() == ["0", "1", "2", "3"]  # 3 is ls's own folder


async def test_no_descriptor_leaks_into_an_exec(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    found = await host.exec(shim, "ls", "/proc/self/fd")
    assert found.stdout.split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("number", range(3, 20))
async def test_a_working_folder_cannot_be_a_leaked_descriptor(host: Host, number: int) -> None:
    """CVE-2024-21626: WORKDIR /proc/self/fd/N."""
    try:
        found = await host.sh("pwd; ls ../../../../etc", cwd=f"/proc/self/fd/{number}")
    except ContainerStartFailure:
        return
    assert "shadow" not in found.stdout


async def test_an_exec_cannot_start_in_a_leaked_descriptor_either(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    for number in range(3, 12):
        with pytest.raises(ContainerStartFailure):
            await host.exec(shim, "pwd", cwd=f"/proc/self/fd/{number}")


# Images that lie -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
async def test_an_image_cannot_move_a_kernel_file_system(
    host: Host, image: Path, name: str
) -> None:
    """CVE-2019-19921, 2023-28642, 2025-52881: the folder is a link to somewhere else."""
    (image / name).symlink_to("/tmp")
    with pytest.raises(ContainerStartFailure, match="too many levels of symbolic links"):
        await host.sh("true", lower=image)


async def test_a_mount_target_that_is_a_link_stays_inside(host: Host, image: Path) -> None:
    """CVE-2021-30465 without the race: the link is resolved inside the root."""
    source = host.folder / "volume"
    source.mkdir()
    (source / "mark").write_text("volume\n")
    outside = host.folder / "outside"
    outside.mkdir()
    (image / "data").symlink_to(f"../../../../../../..{outside}")
    mount = Mount("bind", "/data/sub", source=str(source))
    try:
        found = await host.sh(f"cat {outside}/sub/mark", lower=image, extra_mounts=(mount,))
        assert found.stdout == "volume\n"
    except ContainerStartFailure:
        pass
    assert os.listdir(outside) == []


async def test_folders_are_not_made_outside_the_root(host: Host, image: Path) -> None:
    """CVE-2024-45310: creating the target of a mount must not leave the root."""
    outside = host.folder / "outside"
    outside.mkdir()
    (image / "link").symlink_to(str(outside))
    spec = host.spec(
        "true",
        lower=image,
        extra_mounts=(Mount("tmpfs", "/link/new", data="size=1m"),),
    )
    with contextlib.suppress(ContainerStartFailure):
        await host.finish(await host.start(spec, hold=True))
    assert os.listdir(outside) == []


async def test_targets_swapped_while_mounting_stay_inside(host: Host) -> None:
    """CVE-2021-30465: a second container swaps a shared folder for a link all the time."""
    shared, outside = host.folder / "shared", host.folder / "outside"
    (shared / "inner").mkdir(parents=True)
    outside.mkdir()
    bind = Mount("bind", "/shared", source=str(shared))
    script = (
        f"cd /shared; ln -s {outside} evil; while :; do mv inner aside; mv evil inner; "
        "mv inner evil; mv aside inner; done"
    )
    attacker = await host.start(host.spec("sh", "-c", script, extra_mounts=(bind,)))
    inner = Mount("tmpfs", "/shared/inner/deep", data="size=1m")
    for _ in range(15):
        try:
            await host.run("true", extra_mounts=(bind, inner))
        except ContainerStartFailure:
            continue
    await attacker.cleanup()
    assert os.listdir(outside) == []


async def test_masks_do_not_come_from_the_image(host: Host, image: Path) -> None:
    """CVE-2025-31133: an image's /dev/null is not what hides kernel files."""
    (image / "dev").mkdir()
    (image / "dev/null").symlink_to("/etc/passwd")
    found = await host.sh("cat /proc/keys /proc/timer_list; stat -c %F /proc/keys", lower=image)
    assert found.stdout == "character special file\n"


async def test_the_console_is_not_mounted_over_a_link(host: Host, image: Path) -> None:
    """CVE-2025-52565: without a /dev of ours the image's own is used, links refused."""
    for name in ("dev/pts", "proc"):
        (image / name).mkdir(parents=True)
    (image / "dev/console").symlink_to("/etc/passwd")
    spec = host.spec("sh", "-c", "cat /etc/passwd", lower=image, tty=True)
    mounts = tuple(m for m in spec.mounts if m.target in ("/proc", "/dev/pts"))
    with pytest.raises(ContainerStartFailure, match="symbolic links"):
        await host.start(replace(spec, mounts=mounts, devices=()))


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
async def test_nothing_is_mounted_inside_proc(host: Host, kind: Literal["bind", "tmpfs"]) -> None:
    source = host.folder / "fake"
    source.mkdir()
    mount = Mount(kind, "/proc/sys", source=str(source) if kind == "bind" else "")
    with pytest.raises(ContainerStartFailure, match="a mount inside /proc is refused"):
        await host.run("true", extra_mounts=(mount,))


@pytest.mark.parametrize("key", ["../../etc/passwd", "net/../../../mem", "net..ipv4", "net/./x"])
async def test_a_sysctl_name_cannot_climb(host: Host, key: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid sysctl name"):
        await host.run("true", sysctls={key: "1"})


@pytest.mark.parametrize("key", ["kernel.printk", "vm.swappiness", "fs.file-max", "kernel"])
async def test_a_sysctl_of_the_whole_machine_is_refused(host: Host, key: str) -> None:
    with pytest.raises(InvalidParameter, match="not in a separate kernel namespace"):
        await host.run("true", sysctls={key: "7"})


async def test_a_sysctl_of_a_shared_namespace_is_refused(host: Host) -> None:
    shared = {"net": NamespaceChoice.HOST}
    with pytest.raises(InvalidParameter, match="not in a separate kernel namespace"):
        await host.run("true", namespaces=shared, sysctls={"net.ipv4.ip_forward": "1"})


# Privileges ----------------------------------------------------------------------------------


async def test_inheritable_capabilities_are_empty(host: Host) -> None:
    """CVE-2022-29162, for the container and for an exec."""
    shim = await host.start(host.spec("sleep", "100"))
    found = await host.exec(shim, "grep", "CapInh", "/proc/self/status", "/proc/1/status")
    assert found.stdout.count("0000000000000000") == 2


async def test_control_groups_cannot_be_written(host: Host) -> None:
    """CVE-2022-0492, CVE-2023-25809."""
    found = await host.sh(
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo made; done; "
        "echo 1 > /sys/fs/cgroup/memory/cgroup.procs; ls /sys/fs/cgroup/*/release_agent; echo end"
    )
    assert found.stdout == "end\n"


async def test_the_host_network_shows_no_control_socket(host: Host) -> None:
    """CVE-2020-15257: a container in the host's network may reach abstract sockets."""
    found = await host.sh("cat /proc/net/unix", namespaces={"net": NamespaceChoice.HOST})
    assert not [line for line in found.stdout.splitlines() if "@" in line and "lab" in line]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("socket", (38, 5, 0)),  # AF_ALG
        ("socket", (40, 1, 0)),  # AF_VSOCK
        ("mount", (0, 0, 0, 0, 0)),
        ("umount2", (0, 0)),
        ("unshare", (0x10000000,)),  # CLONE_NEWUSER
        ("setns", (0, 0)),
        ("pivot_root", (0, 0)),
        ("keyctl", (0, -3, 0)),
        ("add_key", (0, 0, 0, 0, -3)),
        ("request_key", (0, 0, 0, -3)),
        ("bpf", (0, 0, 0)),
        ("syslog", (3, "buffer", 100)),
        ("kexec_load", (0, 0, 0, 0)),
        ("init_module", (0, 0, 0)),
        ("perf_event_open", (0, 0, -1, -1, 0)),
        ("open_by_handle_at", (-100, "buffer", 0)),
        ("settimeofday", ("buffer", 0)),
        ("clock_settime", (0, "buffer")),
        ("reboot", (0, 0, 0, 0)),
        ("swapon", (0, 0)),
        ("acct", (0,)),
        ("open_tree", (-100, "buffer", 1)),
        ("fsopen", ("buffer", 0)),
        ("userfaultfd", (0,)),
    ],
)
async def test_a_dangerous_call_is_refused(
    host: Host, armed: Path, name: str, arguments: tuple[object, ...]
) -> None:
    number = syscall_number(name)
    assert number is not None
    found = await host.run("rawcall", str(number), *map(str, arguments), lower=armed)
    assert int(found.stdout) in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT)


async def test_kernel_switches_cannot_be_thrown(host: Host) -> None:
    files = "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/panic"
    found = await host.sh(
        f"for f in {files}; do (echo 1 > $f) 2>/dev/null && echo wrote $f; done; true"
    )
    assert found.stdout == ""


async def test_devices_of_the_machine_cannot_be_opened(host: Host) -> None:
    """mknod is allowed, as in Docker; opening what one has made is not."""
    found = await host.sh(
        "for n in 'c 1 1' 'c 1 2' 'c 1 4' 'b 254 0' 'b 8 0' 'c 10 229'; do mknod /tmp/d $n && "
        "(head -c 1 /tmp/d >/dev/null 2>&1) && echo read $n; rm -f /tmp/d; done; true"
    )
    assert found.stdout == ""


async def test_another_containers_processes_are_out_of_reach(host: Host) -> None:
    victim = await host.start(host.spec("sleep", "100"))
    found = await host.sh(
        f"kill -9 {victim.init_pid} 2>/dev/null || echo nothing; ls /proc | grep -c sleep"
    )
    assert found.stdout.split()[0] == "nothing"
    await asyncio.sleep(0.05)
    assert process_state(victim.init_pid) in ("S", "R")


async def test_keys_of_the_daemons_session_are_not_inherited(host: Host, armed: Path) -> None:
    """Seen with the filter off: the session keyring is a new one (keyrings(7))."""
    number = syscall_number("keyctl")
    assert number is not None
    spec = host.spec("rawcall", str(number), "0", "-3", "0", lower=armed, seccomp=None)
    found = await host.finish(await host.start(spec, hold=True))
    assert found.stdout == "0\n"
    keys = await host.sh("cat /proc/keys | wc -l", seccomp=None)
    assert keys.stdout == "0\n"


# Boundaries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["args", "env", "cwd", "hostname", "mount"])
async def test_a_nul_byte_cannot_cut_a_value_short(host: Host, field: str) -> None:
    spec = host.spec("true")
    process = spec.process
    if field == "args":
        spec = replace(spec, process=replace(process, args=("true", "a\0b")))
    elif field == "env":
        spec = replace(spec, process=replace(process, env=("A=1\0B=2",)))
    elif field == "cwd":
        spec = replace(spec, process=replace(process, cwd="/\0etc"))
    elif field == "hostname":
        spec = replace(spec, hostname="a\0b")
    else:
        spec = replace(spec, mounts=(Mount("tmpfs", "/tmp\0/x"),))
    with pytest.raises(InvalidParameter, match="NUL"):
        await host.start(spec)


async def test_seventeen_megabytes_are_refused_before_they_are_sent(host: Host) -> None:
    with pytest.raises(InvalidParameter, match="too long"):
        await host.start(host.spec("true", env=("A=" + "x" * (17 << 20),)))


async def test_a_path_of_five_thousand_letters_is_an_error(host: Host) -> None:
    with pytest.raises(ContainerStartFailure, match=r"(?i)file name too long"):
        await host.start(host.spec("true", cwd="/" + "a/" * 2500))


async def test_ten_thousand_device_nodes_are_handled(host: Host, image: Path) -> None:
    (image / "dev").mkdir()
    for number in range(10_000):
        (image / "dev" / f"f{number}").touch()
    assert (await host.sh("ls /dev | wc -l", lower=image)).stdout.strip() == "15"


def test_every_namespace_is_new_by_default() -> None:
    assert set(ALL_NEW) == {"mnt", "pid", "ipc", "uts", "net", "cgroup"}
