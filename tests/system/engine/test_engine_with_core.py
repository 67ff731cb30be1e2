"""The engine with real processes: what `docker run` and its siblings rely on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest
from engine_lab import Lab, open_lab

from labkit.base.errors import LabkitError, StartFailure


async def test_output_exit_code_and_log_are_those_of_the_process(lab: Lab) -> None:
    code, out, err = await lab.run("sh", "-c", "echo out; echo err >&2; exit 3", name="c1")
    assert (code, out, err) == (3, "out\n", "err\n")
    assert await lab.logs("c1") == "out\n"
    state = (await lab.engine.container_inspect("c1"))["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 3, False)


async def test_the_container_looks_as_docker_makes_it(lab: Lab) -> None:
    script = "cat /etc/hostname; echo $PATH; pwd; ls -a / | grep dockerenv; ls /sys/class/net"
    identifier = (await lab.engine.container_create({
        "Image": "busybox", "Cmd": ["sh", "-c", script], "WorkingDir": "/made/for/it",
    }, name="c1"))["Id"]  # fmt: skip
    await lab.engine.container_start("c1")
    await (await lab.engine.container_wait("c1"))
    lines = (await lab.logs("c1")).splitlines()
    assert lines[0] == identifier[:12]
    assert lines[1].startswith("/usr/local/sbin:")
    assert lines[2:] == ["/made/for/it", ".dockerenv", "lo"]
    changes = {row["Path"] for row in await lab.engine.container_changes("c1")}
    assert not any(path.startswith(("/etc", "/.docker", "/dev", "/proc")) for path in changes)


async def test_a_missing_command_is_127_and_a_file_without_x_126(lab: Lab) -> None:
    with pytest.raises(StartFailure, match=r'"nosuch": executable file not found in \$PATH'):
        await lab.run("nosuch", name="c1")
    state = (await lab.engine.container_inspect("c1"))["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    with pytest.raises(StartFailure, match="permission denied"):
        await lab.run("/etc/passwd", name="c2")
    assert (await lab.engine.container_inspect("c2"))["State"]["ExitCode"] == 126


async def test_a_failed_start_with_a_client_attached_also_says_why(lab: Lab) -> None:
    await lab.engine.container_create({"Image": "busybox", "Cmd": ["nosuch"]}, name="c1")
    session = await lab.engine.container_attach("c1", stdout=True)
    with pytest.raises(StartFailure, match="executable file not found"):
        await lab.engine.container_start("c1")
    assert await session.reader.read(10) == b""
    await session.close()


async def test_stopping_gives_143_for_a_trap_and_137_for_the_deaf(lab: Lab) -> None:
    script = "trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"
    await lab.start("sh", "-c", script, name="polite")
    await lab.start("sh", "-c", "trap '' TERM; echo ready; sleep 100", name="deaf")
    for name in ("polite", "deaf"):
        stream = await lab.engine.container_logs(name, stdout=True, follow=True)
        assert b"ready" in await anext(stream)
        await stream.aclose()
    await lab.engine.container_stop("polite")
    await lab.engine.container_stop("deaf", timeout=1)
    codes = [
        (await lab.engine.container_inspect(name))["State"]["ExitCode"]
        for name in ("polite", "deaf")
    ]
    assert codes == [143, 137]


async def test_exec_shares_the_container_and_returns_its_code(lab: Lab) -> None:
    await lab.start("sleep", "100", name="c1", Env=["A=1"])
    code, out, err = await lab.exec("c1", "sh", "-c", "echo $A; hostname; echo e >&2; exit 5")
    assert code == 5
    assert out.splitlines()[0] == "1"
    assert err == "e\n"
    with pytest.raises(LabkitError, match="executable file not found"):
        await lab.exec("c1", "nosuch")
    code, out, _ = await lab.exec("c1", "id", User="65534:65534")
    assert "uid=65534" in out


async def test_input_reaches_the_process_and_its_end_too(lab: Lab) -> None:
    await lab.engine.container_create(
        {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True}, name="c1"
    )
    session = await lab.engine.container_attach("c1", stdin=True, stdout=True)
    await lab.engine.container_start("c1")
    assert session.writer is not None
    session.writer.write(b"hello")
    await session.writer.drain()
    session.writer.write_eof()
    async with asyncio.timeout(10):
        data = bytearray()
        while piece := await session.reader.read(100):
            data += piece
    assert bytes(data).endswith(b"hello")
    await session.close()


async def test_logs_are_followed_while_they_are_written(lab: Lab) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.1; done"
    await lab.start("sh", "-c", script, name="c1")
    assert await lab.logs("c1", follow=True) == "1\n2\n3\n"
    assert await lab.logs("c1", tail=1) == "3\n"


async def test_pausing_stops_the_clock_of_the_process(lab: Lab) -> None:
    await lab.start("sh", "-c", "while :; do echo x; sleep 0.02; done", name="c1")
    await lab.engine.container_pause("c1")
    await asyncio.sleep(0.1)  # what was in the pipe already reaches the log
    before = await lab.logs("c1")
    await asyncio.sleep(0.2)
    assert await lab.logs("c1") == before
    await lab.engine.container_unpause("c1")
    await asyncio.sleep(0.2)
    assert len(await lab.logs("c1")) > len(before)


async def test_binds_volumes_and_tmpfs_are_where_they_should_be(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host")
    script = (
        "cat /host/given; touch /host/new 2>/dev/null || echo readonly; "
        "echo kept > /data/file; touch /scratch/x && echo tmp; touch /y 2>/dev/null || echo sealed"
    )
    host = {
        "Binds": [f"{tmp_path}:/host:ro", "keep:/data"],
        "Tmpfs": {"/scratch": "size=1m"},
        "ReadonlyRootfs": True,
    }
    code, out, err = await lab.run("sh", "-c", script, HostConfig=host)
    assert (code, out, err) == (0, "from the hostreadonly\ntmp\nsealed\n", "")
    _, out, _ = await lab.run("cat", "/data/file", HostConfig={"Binds": ["keep:/data"]})
    assert out == "kept\n"


async def test_a_user_given_by_number_is_the_one_that_runs(lab: Lab) -> None:
    _, out, _ = await lab.run("id", User="1234:5678")
    assert "uid=1234 gid=5678" in out


async def test_network_host_and_container_share_what_they_say(lab: Lab) -> None:
    await lab.start("sleep", "100", name="c1")
    own = (await lab.exec("c1", "readlink", "/proc/self/ns/net"))[1]
    _, shared, _ = await lab.run(
        "readlink", "/proc/self/ns/net", HostConfig={"NetworkMode": "container:c1"}
    )
    _, host, _ = await lab.run("readlink", "/proc/self/ns/net", HostConfig={"NetworkMode": "host"})
    assert shared == own
    assert host.strip() == os.readlink("/proc/self/ns/net") != own.strip()


async def test_a_memory_limit_ends_a_hog_and_says_so(lab: Lab) -> None:
    if "memory" not in lab.engine.context.ports.probe.controllers:
        pytest.skip("no memory controller is available to this user")
    script = "x=a; while :; do x=$x$x$x; done"
    limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    code, _, _ = await lab.run("sh", "-c", script, name="c1", HostConfig=limits)
    state = (await lab.engine.container_inspect("c1"))["State"]
    assert (code, state["OOMKilled"]) == (137, True)


async def test_twenty_containers_run_side_by_side(lab: Lab) -> None:
    began = time.monotonic()
    results = await asyncio.gather(
        *(lab.run("sh", "-c", f"echo {number}; exit {number}") for number in range(20))
    )
    print(f"20 containers in {time.monotonic() - began:.2f} s")
    assert results == [(number, f"{number}\n", "") for number in range(20)]
    await asyncio.gather(
        *(
            lab.engine.container_remove(container.id)
            for container in tuple(lab.engine.context.containers.values())
        )
    )


async def test_auto_remove_leaves_nothing_and_waiters_get_the_code(lab: Lab) -> None:
    await lab.engine.container_create(
        {"Image": "busybox", "Cmd": ["sh", "-c", "exit 9"], "HostConfig": {"AutoRemove": True}},
        name="c1",
    )
    waiter = await lab.engine.container_wait("c1", condition="removed")
    await lab.engine.container_start("c1")
    assert await waiter == {"StatusCode": 9}
    assert not lab.engine.context.containers


async def test_running_containers_survive_a_new_engine(lab: Lab, image_store: Path) -> None:
    await lab.start("sh", "-c", "echo before; sleep 0.5; echo after; exit 8", name="quick")
    await lab.start("sleep", "100", name="long")
    pid = (await lab.engine.container_inspect("long"))["State"]["Pid"]
    await lab.close()
    await asyncio.sleep(0.7)
    again = await open_lab(lab.paths, image_store)
    state = (await again.engine.container_inspect("quick"))["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 8)
    assert await again.logs("quick") == "before\nafter\n"
    assert (await again.engine.container_inspect("long"))["State"]["Pid"] == pid
    assert (await again.exec("long", "true"))[0] == 0
    await again.engine.container_stop("long", timeout=0)
    assert (await again.engine.container_inspect("long"))["State"]["ExitCode"] == 137
    await again.close()


async def test_top_lists_what_runs_inside_with_the_machines_pids(lab: Lab) -> None:
    await lab.start("sh", "-c", "sleep 77; true", name="c1")
    found = await lab.engine.container_top("c1")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while "sleep 77" not in {row[7] for row in found["Processes"]}:  # forked, not run yet
                await asyncio.sleep(0.02)
                found = await lab.engine.container_top("c1")
    assert "sleep 77" in {row[7] for row in found["Processes"]}
    pid = (await lab.engine.container_inspect("c1"))["State"]["Pid"]
    assert str(pid) in {row[1] for row in found["Processes"]}
    through_ps = await lab.engine.container_top("c1", "-eo pid,args")
    assert {row[0] for row in through_ps["Processes"]} == {row[1] for row in found["Processes"]}
