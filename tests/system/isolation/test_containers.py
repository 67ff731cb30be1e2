"""A container is what Docker says it is: its namespaces, its files, its limits, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from isolation_kit import CAPS, Host, has_all_ids, process_state, read_proc

from labkit.host.isolation import defaults
from labkit.host.isolation.runtime import ContainerStartFailure
from labkit.host.isolation.spec import (
    CapabilitySets,
    Mount,
    NamespaceChoice,
    ResourceLimits,
    Rlimit,
)

needs_ids = pytest.mark.skipif(
    not has_all_ids(), reason="needs more ids than this user namespace has"
)

KINDS = ("mnt", "pid", "ipc", "uts", "net", "cgroup")


async def test_namespaces_are_really_new(host: Host) -> None:
    found = await host.sh(
        "cd /proc/self/ns; for n in mnt pid ipc uts net cgroup; do readlink $n; done"
    )
    ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS]
    theirs = found.stdout.split()
    assert len(theirs) == len(KINDS)
    assert not set(ours) & set(theirs)


async def test_a_namespace_of_the_host_is_shared_when_asked_for(host: Host) -> None:
    shared = {"net": NamespaceChoice.HOST, "uts": NamespaceChoice.HOST}
    found = await host.sh("for k in net uts; do readlink /proc/self/ns/$k; done", namespaces=shared)
    assert found.stdout.split() == [os.readlink(f"/proc/self/ns/{k}") for k in ("net", "uts")]


async def test_the_first_process_is_pid_1_and_sees_only_its_own(host: Host) -> None:
    found = await host.sh("echo $$; ls -d /proc/[0-9]*")
    assert found.stdout.split()[0] == "1"
    assert "/proc/1" in found.stdout
    assert len(found.stdout.split()) < 5


async def test_the_host_name_is_the_containers(host: Host) -> None:
    assert (await host.run("hostname")).stdout == "box\n"


async def test_loopback_is_up_and_alone(host: Host) -> None:
    found = await host.sh("ip -o addr; ls /sys/class/net")
    assert "127.0.0.1/8" in found.stdout
    assert found.stdout.split()[-1] == "lo"


async def test_the_old_root_is_gone(host: Host) -> None:
    found = await host.sh("cat /proc/self/mountinfo; ls /; cat /etc/passwd")
    assert str(host.folder) not in "".join(
        line.split(" - ")[0] for line in found.stdout.splitlines() if " / / " in line
    )
    assert "student:x:1000" in found.stdout
    assert found.stdout.splitlines()[0].split()[4] == "/"


async def test_changes_go_to_the_upper_layer_only(host: Host) -> None:
    spec = host.spec("sh", "-c", "echo hello > /new; rm /etc/group")
    shim = await host.start(spec)
    await shim.wait()
    upper = host.place(spec) / "upper"
    assert (upper / "new").read_text() == "hello\n"
    assert (host.rootfs / "etc/group").exists()
    assert not (host.rootfs / "new").exists()


async def test_dev_holds_the_standard_nodes_and_links(host: Host) -> None:
    found = await host.sh(
        "ls /dev | tr '\\n' ' '; for n in fd stdin ptmx; do readlink /dev/$n; done; "
        "echo x > /dev/null; "
        "head -c 4 /dev/zero | od -An -tx1; stat -c '%t:%T %a' /dev/null"
    )
    assert found.stdout.splitlines()[0].startswith(
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    )
    assert "/proc/self/fd/0" in found.stdout
    assert "00 00 00 00" in found.stdout
    assert "1:3 666" in found.stdout


async def test_kernel_files_are_masked_or_read_only(host: Host) -> None:
    found = await host.sh(
        "wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l; "
        "echo 1 > /proc/sys/kernel/panic || echo refused; touch /sys/x || echo refused"
    )
    assert found.stdout.split() == ["0", "0", "0", "refused", "refused"]


async def test_capabilities_are_dockers_default_set(host: Host) -> None:
    found = await host.sh("grep Cap /proc/self/status")
    sets = dict(line.split(":\t") for line in found.stdout.splitlines())
    assert sets["CapBnd"] == sets["CapEff"] == sets["CapPrm"] == "00000000a80425fb"
    assert sets["CapAmb"] == "0" * 16


@needs_ids
async def test_an_ordinary_user_has_none(host: Host) -> None:
    none: frozenset[str] = frozenset()
    found = await host.sh(
        "id; grep -E 'Cap(Eff|Prm|Amb)' /proc/self/status; echo again > /dev/stdout",
        uid=1000,
        gid=1000,
        groups=(1000, 2000),
        capabilities=CapabilitySets(CAPS, none, none),
    )
    assert "uid=1000(student) gid=1000(student) groups=1000(student),2000" in found.stdout
    assert found.stdout.count("0" * 16) == 3
    assert found.stdout.endswith("again\n")


@needs_ids
async def test_ambient_capabilities_survive_exec_as_a_user(host: Host) -> None:
    one = frozenset({"CAP_NET_BIND_SERVICE"})
    found = await host.sh(
        "grep -E 'Cap(Eff|Amb)' /proc/self/status",
        uid=1000,
        gid=1000,
        capabilities=CapabilitySets(one, one, one, one, one),
    )
    assert found.stdout.count("0000000000000400") == 2


async def test_the_seccomp_filter_is_loaded_and_answers(host: Host) -> None:
    found = await host.sh("grep Seccomp: /proc/self/status; unshare -m true; echo $?")
    assert "Seccomp:\t2" in found.stdout
    assert found.stdout.split()[-1] != "0"


async def test_no_new_privileges_is_set(host: Host) -> None:
    found = await host.sh("grep NoNewPrivs /proc/self/status", no_new_privs=True)
    assert found.stdout.split() == ["NoNewPrivs:", "1"]


@pytest.mark.parametrize("code", [0, 1, 42, 126, 127, 255])
async def test_the_exit_code_is_the_programs(host: Host, code: int) -> None:
    assert (await host.sh(f"exit {code}")).code == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_signal_adds_128(host: Host, number: int) -> None:
    shim = await host.start(host.spec("sh", "-c", "trap - TERM; exec sleep 100", init=True))
    await asyncio.sleep(0.1)
    await shim.signal(number)
    assert (await shim.wait()).code == 128 + number


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/bin/nosuch"], 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        (["/etc/not-executable"], 'exec: "/etc/not-executable": permission denied'),
        (["/etc"], 'exec: "/etc": is a directory'),
    ],
)
async def test_what_cannot_be_executed_is_named(host: Host, argv: list[str], sentence: str) -> None:
    spec = host.spec(*argv)
    with pytest.raises(ContainerStartFailure) as caught:
        await host.start(spec)
    assert sentence in caught.value.message
    assert caught.value.message.startswith("failed to create task for container: ")
    assert [step.name for step in caught.value.steps][-1] != "exec" or caught.value.steps[-1].error
    assert os.listdir(host.place(spec) / "state") == ["timeline.bin"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo no first line\n", "exec format error"),
        ("", "exec format error"),
        ("\x7fELF and nothing behind it", "exec format error"),
        ("#!/bin/nosuch\n", "no such file or directory"),
        ("#!/bin/sh\r\necho from another system\n", "no such file or directory"),
    ],
)
async def test_a_file_that_is_no_program_says_so_as_the_container(
    host: Host, tmp_path: Path, text: str, reason: str
) -> None:
    script = tmp_path / "script"
    script.write_text(text, newline="")
    script.chmod(0o755)
    mount = Mount("bind", "/script", source=str(script))
    done = await host.run("/script", extra_mounts=(mount,))
    assert (done.code, done.stdout, done.stderr) == (255, "", f"exec /script: {reason}\n")
    assert done.shim.steps[-1].name == "exec"
    assert done.shim.steps[-1].error


@pytest.mark.parametrize("target", ["/proc", "/proc/", "//proc"])
async def test_proc_is_the_kernels_and_nothing_else(
    host: Host, tmp_path: Path, target: str
) -> None:
    mount = Mount("bind", target, source=str(tmp_path))
    mounts = tuple(m for m in defaults.default_mounts() if m.target != "/proc")
    spec = replace(host.spec("true"), mounts=(*mounts, mount))
    with pytest.raises(ContainerStartFailure, match="/proc must be of type proc"):
        await host.start(spec)


@pytest.mark.parametrize(("source", "target"), [("/etc", "/etc/passwd"), ("/etc/passwd", "/bin")])
async def test_a_folder_and_a_file_cannot_cover_each_other(
    host: Host, source: str, target: str
) -> None:
    spec = host.spec("true", extra_mounts=(Mount("bind", target, source=source),))
    with pytest.raises(ContainerStartFailure) as caught:
        await host.start(spec)
    assert f'error mounting "{source}" to rootfs at "{target}": not a dir' in caught.value.message
    assert "Are you trying to mount a directory onto a file" in caught.value.message


async def test_a_held_process_that_cannot_be_executed_fails_at_release(host: Host) -> None:
    shim = await host.start(host.spec("nosuch"), hold=True)
    with pytest.raises(ContainerStartFailure, match="executable file not found"):
        await shim.release()


async def test_a_missing_working_folder_is_made(host: Host) -> None:
    assert (await host.run("pwd", cwd="/new/place")).stdout == "/new/place\n"


async def test_the_root_can_be_read_only(host: Host) -> None:
    found = await host.sh("touch /x || echo refused; touch /dev/shm/x && echo fine", read_only=True)
    assert found.stdout.split() == ["refused", "fine"]


async def test_a_bind_mount_shows_a_folder_and_can_be_read_only(host: Host) -> None:
    source = host.folder / "shared"
    source.mkdir()
    (source / "file").write_text("from outside\n")
    found = await host.sh(
        "cat /mnt/a/file; touch /mnt/a/x || echo refused; echo in > /mnt/b/y",
        extra_mounts=(
            Mount("bind", "/mnt/a", source=str(source), readonly=True),
            Mount("bind", "/mnt/b", source=str(source)),
        ),
    )
    assert found.stdout == "from outside\nrefused\n"
    assert (source / "y").read_text() == "in\n"


async def test_sysctls_reach_the_new_network_namespace(host: Host) -> None:
    found = await host.sh(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
    )
    assert found.stdout == "0\n"


async def test_a_limit_that_cannot_be_raised_is_a_warning(host: Host) -> None:
    shim = await host.start(
        host.spec("sh", "-c", "ulimit -n", rlimits=(Rlimit("nofile", 1 << 20, 1 << 20),)),
        hold=True,
    )
    found = await host.finish(shim)
    assert found.code == 0
    if found.stdout.strip() != str(1 << 20):
        assert any("ulimit nofile 1048576 is not allowed here" in w for w in shim.warnings)


async def test_memory_beyond_the_limit_is_an_oom_kill(host: Host) -> None:
    found = await host.sh(
        "head -c 200m /dev/zero | tail", limits=ResourceLimits(memory_bytes=24 << 20)
    )
    # The shell survives its child: 137 comes through its own exit code.
    assert found.code == 137
    assert found.status.oom_killed


async def test_a_fork_bomb_meets_its_limit(host: Host) -> None:
    found = await host.sh(
        "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo never",
        limits=ResourceLimits(pids=20),
    )
    assert "never" not in found.stdout or "fork" in found.stderr
    assert found.code != 0


async def test_init_forwards_signals_and_reaps(host: Host) -> None:
    shim = await host.start(
        host.spec(
            "sh",
            "-c",
            "trap 'exit 7' TERM; (sleep 0.01 &); while :; do sleep 0.05; done",
            init=True,
        )
    )
    await asyncio.sleep(0.3)
    assert len(shim.pids()) >= 2
    assert "Z" not in [process_state(pid) for pid in shim.pids()]
    cmdline = read_proc(shim.init_pid, "cmdline").split(b"\0")
    assert cmdline[:3] == [b"/sbin/docker-init", b"--", b"sh"]
    await shim.signal(signal.SIGTERM)
    assert (await shim.wait()).code == 7


async def test_pause_stops_and_resume_continues(host: Host) -> None:
    spec = host.spec("sh", "-c", "while :; do echo tick; sleep 0.01; done")
    shim = await host.start(spec)
    log = host.place(spec) / "log.json"
    await shim.wait_log(0)
    await shim.pause()
    size = log.stat().st_size
    await asyncio.sleep(0.1)
    assert log.stat().st_size <= size + 4096
    size = log.stat().st_size
    await asyncio.sleep(0.1)
    assert log.stat().st_size == size
    await shim.resume()
    await asyncio.sleep(0.1)
    assert log.stat().st_size > size


async def test_the_timeline_tells_what_was_done(host: Host) -> None:
    found = await host.run("true")
    names = [step.name for step in found.shim.steps]
    for name in (
        "create namespaces",
        "mount overlay root",
        "pivot_root",
        "load seccomp filter",
        "drop capabilities",
        "exec",
    ):
        assert name in names
    assert names.index("pivot_root") < names.index("load seccomp filter") < names.index("exec")
    assert all(step.end_ns >= step.start_ns for step in found.shim.steps)


async def test_the_identity_file_names_the_processes(host: Host) -> None:
    spec = host.spec("sleep", "100")
    shim = await host.start(spec)
    await asyncio.sleep(0.05)
    record = json.loads((shim.directory / "shim.json").read_text())
    assert record["id"] == spec.id
    assert (record["pid"], record["init_pid"]) == (shim.pid, shim.init_pid)
    assert (shim.directory / "shim.sock").stat().st_mode & 0o777 == 0o600
