"""The shim: who is attached, what is logged, what survives, what is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import time
from pathlib import Path

import pytest
from isolation_kit import Host, has_all_ids, process_state, split_frames

from labkit.base.errors import Conflict
from labkit.host.isolation.runtime import ContainerStartFailure, ExitStatus, Runtime, Shim
from labkit.host.isolation.spec import IoSpec, ProcessSpec

needs_ids = pytest.mark.skipif(
    not has_all_ids(), reason="needs more ids than this user namespace has"
)


def log_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_held_process_prints_nothing_before_its_release(host: Host) -> None:
    spec = host.spec("echo", "first words")
    shim = await host.start(spec, hold=True)
    assert shim.is_held
    assert process_state(shim.init_pid)
    await asyncio.sleep(0.05)
    assert (host.place(spec) / "log.json").read_text() == ""
    found = await host.finish(shim)
    assert found.stdout == "first words\n"


async def test_release_may_be_asked_twice(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "0.2"), hold=True)
    await asyncio.gather(shim.release(), shim.release())
    await shim.release()
    assert (await shim.wait()).code == 0


async def test_every_client_gets_all_that_follows(host: Host) -> None:
    shim = await host.start(host.spec("sh", "-c", "echo out; echo err >&2"), hold=True)
    clients = [
        await shim.attach(stdin=False, stdout=True, stderr=True),
        await shim.attach(stdin=False, stdout=True, stderr=False),
        await shim.attach(stdin=False, stdout=False, stderr=True),
    ]
    await shim.release()
    found = [split_frames(await reader.read()) for reader, _ in clients]
    assert found == [(b"out\n", b"err\n"), (b"out\n", b""), (b"", b"err\n")]
    for _, writer in clients:
        writer.close()


async def test_input_reaches_the_process_and_its_end_too(host: Host) -> None:
    shim = await host.start(host.spec("cat"), hold=True, open_stdin=True, stdin_once=True)
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.release()
    data = os.urandom(300_000)

    async def feed() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, received = await asyncio.gather(feed(), reader.read())
    assert split_frames(received)[0] == data
    assert (await shim.wait()).code == 0
    writer.close()


async def test_input_stays_open_without_stdin_once(host: Host) -> None:
    shim = await host.start(host.spec("cat"), open_stdin=True)
    for word in (b"one\n", b"two\n"):
        reader, writer = await shim.attach(stdin=True, stdout=True, stderr=False)
        writer.write(word)
        writer.write_eof()
        assert (await reader.readexactly(12))[8:] == word
        writer.close()
    assert not shim.has_exited
    await shim.close_stdin()
    assert (await shim.wait()).code == 0


async def test_a_client_that_goes_away_does_not_block_the_container(host: Host) -> None:
    shim = await host.start(host.spec("sh", "-c", "head -c 3000000 /dev/zero"), hold=True)
    _, writer = await shim.attach(stdin=False, stdout=True, stderr=True)
    await shim.release()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    assert (await asyncio.wait_for(shim.wait(), 20)).code == 0


async def test_a_slow_client_gets_everything(host: Host) -> None:
    shim = await host.start(host.spec("sh", "-c", "head -c 1500000 /dev/zero"), hold=True)
    reader, writer = await shim.attach(stdin=False, stdout=True, stderr=True)
    await shim.release()
    await asyncio.sleep(0.2)
    assert len(split_frames(await reader.read())[0]) == 1_500_000
    writer.close()


async def test_a_terminal_has_a_size_and_can_be_resized(host: Host) -> None:
    script = "tty; stty size; read x; stty size"
    spec = host.spec("sh", "-c", script, tty=True, console_size=(30, 90))
    shim = await host.start(spec, hold=True, open_stdin=True, stdin_once=True)
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.release()
    assert await reader.readuntil(b"30 90\r\n") == b"/dev/pts/0\r\n30 90\r\n"
    await shim.resize(40, 120)
    writer.write(b"\n")
    assert (await reader.read()).endswith(b"40 120\r\n")
    assert (await shim.wait()).code == 0
    writer.close()


@needs_ids
async def test_the_terminal_is_the_console_and_the_users(host: Host) -> None:
    script = "echo through > /dev/console; ls -l /dev/pts/0"
    spec = host.spec("sh", "-c", script, tty=True, uid=1000)
    found = await host.finish(await host.start(spec, hold=True, open_stdin=True))
    assert "through" in found.stdout
    assert "student" in found.stdout


async def test_an_interrupt_typed_at_the_terminal_is_a_signal(host: Host) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    spec = host.spec("sh", "-c", script, tty=True)
    shim = await host.start(spec, hold=True, open_stdin=True)
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.release()
    await reader.readuntil(b"ready\r\n")
    writer.write(b"\x03")
    assert b"caught" in await reader.read()
    assert (await shim.wait()).code == 5
    writer.close()


async def test_resize_without_a_terminal_is_refused(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "10"))
    with pytest.raises(Conflict):
        await shim.resize(10, 10)


# The log ------------------------------------------------------------------------------------


async def test_the_log_is_dockers_json(host: Host) -> None:
    script = r"""printf 'a\tb<&>"\\\n'; printf '\377\n' >&2; printf 'no newline'"""
    spec = host.spec("sh", "-c", script)
    await (await host.start(spec)).wait()
    text = (host.place(spec) / "log.json").read_bytes()
    assert rb'"log":"a\u0009b\u003c\u0026\u003e\"\\\n","stream":"stdout","time":"' in text
    assert rb'"log":"\ufffd\n","stream":"stderr"' in text
    assert text.count(b"\n") == 3
    assert rb'{"log":"no newline","stream":"stdout"' in text


async def test_long_lines_are_cut_at_16_kib(host: Host) -> None:
    spec = host.spec("sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo")
    await (await host.start(spec)).wait()
    found = [len(line["log"]) for line in log_lines(host.place(spec) / "log.json")]
    assert found == [16384, 16384, 40000 - 2 * 16384 + 1]


async def test_the_log_rotates_and_keeps_what_it_was_told(host: Host) -> None:
    spec = host.spec("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")
    await (await host.start(spec, log_max_bytes=20_000, log_max_files=3)).wait()
    folder = host.place(spec)
    names = sorted(path.name for path in folder.glob("log.json*"))
    assert names == ["log.json", "log.json.1", "log.json.2"]
    numbers = [
        int(line["log"].split()[1]) for name in reversed(names) for line in log_lines(folder / name)
    ]
    assert numbers == list(range(numbers[0], 3000))
    assert all((folder / name).stat().st_size < 20_200 for name in names)


async def test_followers_are_told_without_polling(host: Host) -> None:
    spec = host.spec("sh", "-c", "echo one; sleep 0.2; echo two")
    shim = await host.start(spec)
    first = await shim.wait_log(0)
    second = await shim.wait_log(first.total)
    assert second.total > first.total > 0
    assert (await shim.wait_log(second.total)).ended
    assert (host.place(spec) / "log.json").stat().st_size == second.total


@needs_ids
async def test_a_full_disk_does_not_stop_the_container(host: Host) -> None:
    spec = host.spec("sh", "-c", "echo lost; echo lost; exit 9")
    folder = host.place(spec) / "full"
    folder.mkdir()
    (folder / "log").symlink_to("/dev/full")  # refused as a link: the next best full disk
    with pytest.raises(ContainerStartFailure):
        await host.start(spec, log_path=folder / "log")
    (folder / "log").unlink()
    os.mknod(folder / "log", 0o20600, os.makedev(1, 7))
    shim = await host.start(host.spec("sh", "-c", "echo lost; exit 9"), log_path=folder / "log")
    assert (await shim.wait()).code == 9
    assert json.loads((shim.directory / "exit.json").read_text())["log_dropped_bytes"] > 0


# Exec ---------------------------------------------------------------------------------------


async def test_exec_joins_everything_the_container_has(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    script = (
        "cd /proc/self; for k in mnt pid ipc uts net cgroup; do readlink ns/$k; done; cat cgroup"
    )
    found = await host.exec(shim, "sh", "-c", script)
    lines = found.stdout.splitlines()
    kinds = ("mnt", "pid", "ipc", "uts", "net", "cgroup")
    assert lines[:6] == [os.readlink(f"/proc/{shim.init_pid}/ns/{k}") for k in kinds]
    groups = [line for line in lines[6:] if "systemd" not in line and "0::" not in line]
    assert all(line.endswith(":/") for line in groups)
    assert not shim.has_exited


@needs_ids
async def test_exec_has_its_own_exit_code_user_and_folder(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    found = await host.exec(shim, "sh", "-c", "id -u; pwd; exit 3", uid=1000, gid=1000, cwd="/tmp")
    assert (found.code, found.stdout) == (3, "1000\n/tmp\n")


async def test_exec_is_confined_like_the_container(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    found = await host.exec(shim, "grep", "-E", "CapEff|Seccomp:", "/proc/self/status")
    assert found.stdout == "CapEff:\t00000000a80425fb\nSeccomp:\t2\n"


async def test_exec_of_nothing_is_dockers_sentence(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    with pytest.raises(ContainerStartFailure) as caught:
        await host.exec(shim, "nosuch")
    assert caught.value.message == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH: unknown'
    )


async def test_exec_ends_with_its_container(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    place = host.folder / "exec-long"
    place.mkdir()
    inner = await host.runtime.exec(shim, ProcessSpec(("/bin/sleep", "50")), IoSpec(), place)
    host.shims.insert(0, inner)
    await shim.signal(signal.SIGKILL)
    assert (await shim.wait()).code == 137
    assert (await inner.wait()).code == 137


async def test_exec_with_a_terminal_of_the_container(host: Host) -> None:
    shim = await host.start(host.spec("sleep", "100"))
    found = await host.exec(shim, "sh", "-c", "tty; stty size", tty=True, console_size=(11, 22))
    assert found.stdout == "/dev/pts/0\r\n11 22\r\n"


async def test_exec_in_a_container_that_is_over_is_refused(host: Host) -> None:
    shim = await host.start(host.spec("true"))
    await shim.wait()
    with pytest.raises(Conflict):
        await host.exec(shim, "true")


async def reaped(pid: int) -> None:
    """Wait for a shim that the runtime has let go of."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert await asyncio.to_thread(poll.poll, 30_000)
        os.close(handle)


# Bad days -----------------------------------------------------------------------------------


async def wait_gone(pid: int) -> None:
    for _ in range(200):
        if process_state(pid) in ("", "Z"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pid} still runs")


async def test_a_killed_shim_takes_its_container_along(host: Host) -> None:
    spec = host.spec("sleep", "100")
    shim = await host.start(spec)
    os.kill(shim.pid, signal.SIGKILL)
    status = await asyncio.wait_for(shim.wait(), 5)
    assert (status.code, status.error) == (137, "shim died")
    await wait_gone(shim.init_pid)
    again = await host.runtime.recover(shim.directory)
    assert isinstance(again, ExitStatus)
    assert again.code == 137


async def test_a_killed_shim_takes_a_held_container_along(host: Host) -> None:
    shim = await host.start(host.spec("true"), hold=True)
    os.kill(shim.pid, signal.SIGKILL)
    await wait_gone(shim.init_pid)


async def test_a_container_survives_its_daemon_and_is_found_again(host: Host) -> None:
    spec = host.spec("sh", "-c", "echo before; sleep 0.3; echo after; exit 6")
    shim = await host.start(spec)
    pid = shim.init_pid
    host.shims.remove(shim)
    shim.detach()
    found = await host.runtime.recover(shim.directory)
    assert isinstance(found, Shim)
    host.shims.append(found)
    assert (found.init_pid, found.started_at_ns) == (pid, shim.started_at_ns)
    await found.release()
    status = await asyncio.wait_for(found.wait(), 5)
    assert status.code == 6
    logged = [line["log"] for line in log_lines(host.place(spec) / "log.json")]
    assert logged == ["before\n", "after\n"]
    await reaped(shim.pid)


async def test_an_end_nobody_saw_is_found_in_the_record(host: Host) -> None:
    spec = host.spec("sh", "-c", "sleep 0.1; exit 4")
    shim = await host.start(spec)
    host.shims.remove(shim)
    shim.detach()
    await reaped(shim.pid)
    assert not (shim.directory / "shim.sock").exists()
    found = await host.runtime.recover(shim.directory)
    assert isinstance(found, ExitStatus)
    assert found.code == 4
    assert abs(found.finished_at_ns - time.time_ns()) < 60e9


async def test_a_held_start_is_given_up_when_its_daemon_goes(host: Host) -> None:
    shim = await host.start(host.spec("true"), hold=True)
    host.shims.remove(shim)
    shim.detach()
    await reaped(shim.pid)
    await wait_gone(shim.init_pid)
    found = await host.runtime.recover(shim.directory)
    assert isinstance(found, ExitStatus)


async def test_a_folder_nobody_started_in_has_an_end_too(host: Host) -> None:
    folder = host.folder / "never"
    folder.mkdir()
    found = await host.runtime.recover(folder)
    assert isinstance(found, ExitStatus)
    assert found.error == "never started"


async def test_too_little_memory_to_start_is_a_failure_with_a_hint(host: Host) -> None:
    from labkit.host.isolation.spec import ResourceLimits

    spec = host.spec("true", limits=ResourceLimits(memory_bytes=64 << 10))
    with pytest.raises(ContainerStartFailure) as caught:
        await host.start(spec)
    assert caught.value.hint


async def test_four_megabytes_of_environment_are_refused_by_name(host: Host) -> None:
    value = "x" * 100_000
    done = await host.run("true", env=("PATH=/bin", *(f"V{i}={value}" for i in range(40))))
    assert (done.code, done.stderr) == (255, "exec /bin/true: argument list too long\n")


async def test_many_containers_at_once(host: Host) -> None:
    found = await asyncio.gather(*(host.sh(f"echo {i}") for i in range(12)))
    assert [result.stdout.strip() for result in found] == [str(i) for i in range(12)]


async def test_two_runtimes_do_not_see_each_others_groups(host: Host) -> None:
    other = Runtime(host=None, instance=f"other-{host.folder.name}", probe=None)
    await host.start(host.spec("sleep", "10"))
    assert other.cgroups.names() == []
    assert other.cgroups.close()
    other.close()
