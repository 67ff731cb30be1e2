"""Attach, exec, logs, events, health."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from engine_fakes import World

from labkit.base.errors import Conflict, InvalidParameter, NotFound, StartFailure, Unsupported
from labkit.host.engine.logs import LogStream


def frame(text: str, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text.encode()


async def test_a_session_opened_before_the_start_misses_nothing(world: World) -> None:
    await world.create(OpenStdin=True)
    session = await world.engine.container_attach("c1", stdin=True, stdout=True)
    assert session.writer is not None
    session.writer.write(b"early ")
    reading = asyncio.ensure_future(session.reader.read(100))
    await world.engine.container_start("c1")
    shim = world.runtime.last
    assert shim.released
    await session.writer.drain()
    session.writer.write(b"late")
    session.writer.write_eof()
    shim.say("hi")
    assert await reading == frame("hi")
    assert (bytes(shim.input), shim.input_closed) == (b"early late", True)
    shim.exit()
    assert await session.reader.read(100) == b""
    await session.close()


async def test_input_is_not_taken_for_a_container_without_open_stdin(world: World) -> None:
    await world.run()
    session = await world.engine.container_attach("c1", stdin=True, stdout=True)
    assert session.writer is None
    await session.close()


async def test_a_session_on_a_container_that_is_removed_ends(world: World) -> None:
    await world.create()
    session = await world.engine.container_attach("c1", stdout=True)
    await world.engine.container_remove("c1")
    assert await session.reader.read(10) == b""


async def test_attach_to_a_paused_container_is_refused(world: World) -> None:
    await world.run()
    await world.engine.container_pause("c1")
    with pytest.raises(Conflict, match="is paused, unpause the container before attach"):
        await world.engine.container_attach("c1", stdout=True)


async def test_exec_runs_once_and_keeps_its_exit_code(world: World) -> None:
    await world.run(User="ana", Env=["A=1"])
    created = await world.engine.exec_create(
        "c1", {"Cmd": ["ls", "-l"], "AttachStdout": True, "Env": ["B=2"]}
    )
    session = await world.engine.exec_start(created["Id"], {"Detach": False})
    assert session is not None
    shim = world.runtime.last
    assert shim.process.args == ("ls", "-l")
    assert shim.process.uid == 1000
    assert {"A=1", "B=2"} <= set(shim.process.env)
    found = await world.engine.exec_inspect(created["Id"])
    assert (found["Running"], found["ExitCode"], found["Pid"]) == (True, None, shim.init_pid)
    shim.say("x")
    assert await session.reader.read(50) == frame("x")
    shim.exit(6)
    assert await session.reader.read(50) == b""
    async with asyncio.timeout(5):
        while (await world.engine.exec_inspect(created["Id"]))["Running"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await world.engine.exec_inspect(created["Id"]))["ExitCode"] == 6
    with pytest.raises(Conflict, match="has already run"):
        await world.engine.exec_start(created["Id"], {})
    assert [a for a in world.actions() if a.startswith("exec")] == [
        "exec_create: ls -l", "exec_start: ls -l", "exec_die",
    ]  # fmt: skip


async def test_exec_refuses_what_cannot_be(world: World) -> None:
    identifier = await world.create()
    with pytest.raises(Conflict, match=f"container {identifier} is not running"):
        await world.engine.exec_create("c1", {"Cmd": ["true"]})
    await world.engine.container_start("c1")
    with pytest.raises(InvalidParameter, match="no exec command specified"):
        await world.engine.exec_create("c1", {})
    with pytest.raises(NotFound, match="No such exec instance: zz"):
        await world.engine.exec_start("zz", {})
    created = await world.engine.exec_create("c1", {"Cmd": ["nosuch"]})
    world.runtime.fail_with = 'exec: "nosuch": executable file not found in $PATH'
    with pytest.raises(StartFailure):
        await world.engine.exec_start(created["Id"], {})
    assert (await world.engine.exec_inspect(created["Id"]))["ExitCode"] == 127


async def test_a_running_exec_is_followed_again_by_a_new_engine(world: World) -> None:
    await world.run()
    created = await world.engine.exec_create("c1", {"Cmd": ["sleep", "9"]})
    await world.engine.exec_start(created["Id"], {"Detach": True})
    shim = world.runtime.last
    await world.reopen(politely=False)
    assert (await world.engine.exec_inspect(created["Id"]))["Running"]
    shim.exit(9)
    async with asyncio.timeout(5):
        while (await world.engine.exec_inspect(created["Id"]))["Running"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def log_line(text: str, second: int, stream: str = "stdout") -> str:
    return (
        json.dumps({"log": text, "stream": stream, "time": f"2026-01-01T00:00:{second:02d}.5Z"})
        + "\n"
    )


def log_path(world: World) -> Path:
    container = world.context.find("c1")
    return world.context.folder(container.id) / f"{container.id}-json.log"


async def read(stream: LogStream) -> bytes:
    return b"".join([piece async for piece in stream])


async def test_logs_come_back_framed_by_stream(world: World) -> None:
    await world.create()
    log_path(world).write_text(log_line("a\n", 1) + log_line("b\n", 2, "stderr"))
    both = await world.engine.container_logs("c1", stdout=True, stderr=True)
    assert await read(both) == frame("a\n") + frame("b\n", 2)
    only = await world.engine.container_logs("c1", stderr=True)
    assert await read(only) == frame("b\n", 2)
    with pytest.raises(InvalidParameter, match="at least one stream"):
        await world.engine.container_logs("c1")


async def test_a_terminals_log_is_raw(world: World) -> None:
    await world.create(Tty=True)
    log_path(world).write_text(log_line("a\r\n", 1))
    stream = await world.engine.container_logs("c1", stdout=True)
    assert stream.tty
    assert await read(stream) == b"a\r\n"


@pytest.mark.parametrize("tail", [0, 1, 3, 5, 99])
async def test_tail_counts_lines_across_rotated_files(world: World, tail: int) -> None:
    await world.create()
    path = log_path(world)
    lines = [log_line(f"{number}\n", number) for number in range(6)]
    path.with_name(path.name + ".2").write_text("".join(lines[:2]))
    path.with_name(path.name + ".1").write_text("".join(lines[2:4]))
    path.write_text("".join(lines[4:]))
    stream = await world.engine.container_logs("c1", stdout=True, tail=tail)
    expected = [frame(f"{number}\n") for number in range(6)][max(6 - tail, 0) :]
    assert await read(stream) == b"".join(expected)


async def test_tail_of_a_long_log_is_found_from_the_end(world: World) -> None:
    await world.create()
    with log_path(world).open("w") as file:
        for number in range(20_000):
            file.write(log_line(f"line {number}\n", 1))
    stream = await world.engine.container_logs("c1", stdout=True, tail=2)
    assert await read(stream) == frame("line 19998\n") + frame("line 19999\n")


async def test_since_until_timestamps_and_details(world: World) -> None:
    options = {"Type": "json-file", "Config": {"labels": "a", "env": "B"}}
    await world.create(Labels={"a": "1"}, Env=["B=2 3"], HostConfig={"LogConfig": options})
    log_path(world).write_text("".join(log_line(f"{n}\n", n) for n in range(5)))
    base = 1_767_225_600_000_000_000
    stream = await world.engine.container_logs(
        "c1", stdout=True, since_ns=base + 2_000_000_000, until_ns=base + 4_000_000_000
    )
    assert await read(stream) == frame("2\n") + frame("3\n")
    stream = await world.engine.container_logs(
        "c1", stdout=True, tail=1, timestamps=True, details=True
    )
    assert await read(stream) == frame("2026-01-01T00:00:04.500000000Z B=2+3,a=1 4\n")


async def test_a_line_cut_off_by_a_crash_is_left_out(world: World) -> None:
    await world.create()
    log_path(world).write_text(
        log_line("a\n", 1) + '{"log":"cut\\n","stream":"std\n' + log_line("b\n", 2)
    )
    stream = await world.engine.container_logs("c1", stdout=True)
    assert await read(stream) == frame("a\n") + frame("b\n")


async def test_follow_gives_new_lines_through_a_rotation_and_ends_with_the_container(
    world: World,
) -> None:
    shim = await world.run()
    path = log_path(world)
    path.write_text(log_line("a\n", 1))
    stream = await world.engine.container_logs("c1", stdout=True, follow=True)
    async with asyncio.timeout(5):
        assert await anext(stream) == frame("a\n")
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        with path.open("a") as file:
            file.write(log_line("b\n", 2))
        assert await waiting == frame("b\n")
        path.rename(path.with_name(path.name + ".1"))
        path.write_text(log_line("c\n", 3))
        assert await anext(stream) == frame("c\n")
        shim.exit()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_the_none_driver_has_nothing_to_read(world: World) -> None:
    await world.run(HostConfig={"LogConfig": {"Type": "none"}})
    assert world.runtime.ios[-1].log_path is None
    with pytest.raises(Unsupported, match="configured logging driver does not support reading"):
        await world.engine.container_logs("c1", stdout=True)


async def test_events_are_filtered_live_and_from_history(world: World) -> None:
    live = await world.engine.events(filters={"event": ["die"]})
    waiting = asyncio.ensure_future(anext(live))
    (await world.run(Labels={"team": "red"})).exit(1)
    event = await waiting
    assert (event["Type"], event["Action"]) == ("container", "die")
    await live.aclose()  # type: ignore[attr-defined]
    first = world.context.events._history[0]["timeNano"]
    for filters, actions in (
        ({"type": ["container"], "label": ["team=red"]}, ["create", "start", "die"]),
        ({"label": ["team=blue"]}, []),
        ({"container": ["c1"], "event": ["start", "create"]}, ["create", "start"]),
        ({"image": ["busybox"], "event": ["die"]}, ["die"]),
    ):
        stream = await world.engine.events(
            since_ns=first, until_ns=event["timeNano"], filters=filters
        )
        assert [item["Action"] async for item in stream] == actions
    stream = await world.engine.events(
        since_ns=first, until_ns=event["timeNano"], filters={"nosuch": ["x"], "event": ["die"]}
    )
    assert [item["Action"] async for item in stream] == ["die"]  # as Docker: not heeded


async def test_a_health_check_goes_from_starting_to_unhealthy_to_healthy(world: World) -> None:
    check = {"Test": ["CMD", "probe"], "Interval": 20_000_000, "Retries": 2}
    await world.run(Healthcheck=check)
    main = world.runtime.last
    assert world.context.find("c1").state.health["Status"] == "starting"  # type: ignore[index]

    async def probes(code: int, until: str) -> None:
        async with asyncio.timeout(30):
            while world.context.find("c1").state.health["Status"] != until:  # type: ignore[index]
                if world.runtime.last is not main:
                    world.runtime.last.exit(code)
                await asyncio.sleep(0.005)

    await probes(1, "unhealthy")
    await probes(0, "healthy")
    health = (await world.engine.container_inspect("c1"))["State"]["Health"]
    assert health["FailingStreak"] == 0
    assert 0 < len(health["Log"]) <= 5
    async with asyncio.timeout(10):  # the event follows the record
        while "health_status: healthy" not in world.actions():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    told = [action for action in world.actions() if action.startswith("health_status")]
    assert told == ["health_status: unhealthy", "health_status: healthy"]
    main.exit()
    await world.ended()


async def test_top_shows_docker_columns_and_machine_pids(world: World) -> None:
    await world.run()
    found = await world.engine.container_top("c1")
    assert found["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert len(found["Processes"]) == 1
    with pytest.raises(InvalidParameter, match="is not allowed"):
        await world.engine.container_top("c1", "-o pid=x")


async def test_one_sample_of_stats_has_dockers_sections(world: World) -> None:
    await world.run()
    found = await world.engine.container_stats("c1")
    assert found["memory_stats"]["usage"] == 1000
    assert found["cpu_stats"]["online_cpus"] >= 1
    assert found["pids_stats"]["current"] == 1


async def test_every_kind_of_text_comes_back_as_it_was_printed(world: World) -> None:
    await world.create()
    texts = ["plain\n", "no end", 'quo"te\n', "back\\slash\n", "\\n\n", "\n", "ünï→\n", "a\tb\n",
             '","stream":"stderr","time":"x"}\n', "\\", ""]  # fmt: skip
    # As the shim writes it, and as other writers of json-file do.
    compact = [
        json.dumps({"log": text, "stream": "stdout", "time": "x"}, separators=(",", ":"))
        for text in texts
    ]
    log_path(world).write_text("".join(f"{line}\n" for line in compact))
    stream = await world.engine.container_logs("c1", stdout=True, stderr=True)
    found, rest = [], await read(stream)
    while rest:
        size = int.from_bytes(rest[4:8], "big")
        assert rest[0] == 1
        found.append(rest[8 : 8 + size].decode())
        rest = rest[8 + size :]
    assert found == texts
