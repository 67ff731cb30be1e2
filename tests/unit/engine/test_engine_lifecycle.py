"""Every transition of the table, and the sentence for each that is not in it."""

from __future__ import annotations

import asyncio
import re

import pytest
from engine_fakes import World, fake_image

from labkit.base.errors import (
    Conflict,
    InvalidParameter,
    LabkitError,
    NotFound,
    NotModified,
    StartFailure,
    SystemFailure,
)
from labkit.host.engine.states import STATES, TRANSITIONS, successor


def test_every_transition_joins_known_states_and_each_pair_has_one_target() -> None:
    for row in TRANSITIONS:
        assert row.target in STATES
        assert row.source is None or row.source in STATES
        assert successor(row.source, row.action) == row.target
    assert len({(row.source, row.action) for row in TRANSITIONS}) == len(TRANSITIONS)


async def test_a_container_goes_from_created_to_running_to_exited_to_gone(world: World) -> None:
    shim = await world.run("c1", Cmd=["sleep", "9"])
    assert (await world.engine.container_inspect("c1"))["State"]["Status"] == "running"
    shim.exit(7)
    await world.ended()
    state = (await world.engine.container_inspect("c1"))["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 7, 0)
    assert shim.cleaned
    await world.engine.container_remove("c1")
    with pytest.raises(NotFound, match="No such container: c1"):
        await world.engine.container_inspect("c1")
    assert world.actions() == ["create", "start", "die", "destroy"]
    assert not list((world.context.data / "containers").iterdir())
    assert not world.snapshots.containers()


async def test_the_die_event_carries_exit_code_and_duration(world: World) -> None:
    (await world.run()).exit(3)
    await world.ended()
    die = next(event for event in world.context.events._history if event["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "3"
    assert die["Actor"]["Attributes"]["execDuration"] == "0"
    assert die["from"] == "busybox"


async def test_a_missing_image_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        await world.create(Image="nosuch")


async def test_a_name_in_use_is_a_conflict_that_names_its_holder(world: World) -> None:
    holder = await world.create("web")
    with pytest.raises(Conflict) as caught:
        await world.create("web")
    assert caught.value.message == (
        f'Conflict. The container name "/web" is already in use by container "{holder}". You have '
        "to remove (or rename) that container to be able to reuse that name."
    )


async def test_a_name_is_free_again_after_a_failed_create(world: World) -> None:
    with pytest.raises(InvalidParameter, match="No such container: nosuch"):
        await world.create("web", HostConfig={"VolumesFrom": ["nosuch"]})
    await world.create("web")


@pytest.mark.parametrize("name", ["-web", "a", "we b", "wéb", "a/b"])
async def test_a_bad_name_is_refused_in_dockers_words(world: World, name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        await world.create(name)
    assert caught.value.message == (
        f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )


async def test_a_container_without_a_name_gets_an_adjective_and_a_surname(world: World) -> None:
    found = await world.engine.container_create({"Image": "busybox"})
    name = (await world.engine.container_inspect(found["Id"]))["Name"]
    assert re.fullmatch(r"/[a-z]+_[a-z]+\d*", name)


async def test_starting_twice_is_not_modified(world: World) -> None:
    await world.run()
    with pytest.raises(NotModified):
        await world.engine.container_start("c1")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ('exec: "/etc": permission denied', 126),
        ("something else", 128),
    ],
)
async def test_a_failed_start_leaves_it_created_with_the_reason(
    world: World, text: str, code: int
) -> None:
    await world.create()
    world.runtime.fail_with = text
    with pytest.raises(StartFailure):
        await world.engine.container_start("c1")
    state = (await world.engine.container_inspect("c1"))["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", code, text)
    world.runtime.fail_with = None
    await world.engine.container_start("c1")
    assert (await world.engine.container_inspect("c1"))["State"]["Error"] == ""


async def test_a_failed_start_removes_an_auto_remove_container(world: World) -> None:
    await world.create(HostConfig={"AutoRemove": True})
    world.runtime.fail_with = "executable file not found"
    with pytest.raises(StartFailure):
        await world.engine.container_start("c1")
    assert not world.context.containers


async def test_stop_sends_the_stop_signal_and_is_then_not_modified(world: World) -> None:
    shim = await world.run()
    await world.engine.container_stop("c1")
    assert shim.signals == [15]
    assert world.actions()[-3:] == ["kill", "die", "stop"]
    with pytest.raises(NotModified):
        await world.engine.container_stop("c1")


async def test_stop_kills_what_ignores_the_signal(world: World) -> None:
    shim = await world.run(StopSignal="SIGUSR1")
    await world.engine.container_stop("c1", timeout=0)
    assert shim.signals == [10, 9]
    assert (await world.engine.container_inspect("c1"))["State"]["ExitCode"] == 137


async def test_kill_of_a_stopped_container_is_a_conflict(world: World) -> None:
    identifier = await world.create()
    with pytest.raises(Conflict) as caught:
        await world.engine.container_kill("c1")
    assert caught.value.message == (
        f"cannot kill container: c1: container {identifier} is not running"
    )


async def test_an_unknown_signal_is_refused(world: World) -> None:
    await world.run()
    with pytest.raises(InvalidParameter, match="invalid signal: FOO"):
        await world.engine.container_kill("c1", signal="FOO")


async def test_pause_and_unpause_refuse_what_is_already_so(world: World) -> None:
    shim = await world.run()
    identifier = world.context.find("c1").id
    with pytest.raises(Conflict, match=f"Container {identifier} is not paused"):
        await world.engine.container_unpause("c1")
    await world.engine.container_pause("c1")
    assert shim.frozen
    with pytest.raises(Conflict, match="is already paused"):
        await world.engine.container_pause("c1")
    with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
        await world.engine.exec_create("c1", {"Cmd": ["true"]})
    with pytest.raises(Conflict, match="cannot start a paused container, try unpause instead"):
        await world.engine.container_start("c1")
    with pytest.raises(Conflict, match="container is paused and must be unpaused first"):
        await world.engine.container_remove("c1")
    await world.engine.container_unpause("c1")
    assert not shim.frozen


async def test_a_paused_container_is_thawed_to_be_stopped(world: World) -> None:
    shim = await world.run()
    await world.engine.container_pause("c1")
    await world.engine.container_stop("c1")
    assert not shim.frozen
    assert (await world.engine.container_inspect("c1"))["State"]["Status"] == "exited"


async def test_a_running_container_is_removed_only_by_force(world: World) -> None:
    shim = await world.run()
    with pytest.raises(Conflict) as caught:
        await world.engine.container_remove("c1")
    assert caught.value.message == (
        'cannot remove container "/c1": container is running: stop the container before removing '
        "or force remove"
    )
    await world.engine.container_remove("c1", force=True)
    assert shim.signals == [9]
    assert not world.context.containers


async def test_a_second_removal_is_already_in_progress(world: World) -> None:
    await world.create()
    world.context.find("c1").removing = True
    with pytest.raises(Conflict, match="removal of container c1 is already in progress"):
        await world.engine.container_remove("c1")


async def test_two_removals_at_once_give_one_success_and_one_conflict(world: World) -> None:
    await world.run()
    results = await asyncio.gather(
        *(world.engine.container_remove("c1", force=True) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    assert all(result is None or isinstance(result, LabkitError) for result in results)


async def test_a_removal_that_fails_leaves_it_dead_and_can_be_tried_again(world: World) -> None:
    await world.create()
    world.snapshots.fail_remove = OSError(16, "Device or resource busy")
    with pytest.raises(SystemFailure, match="unable to remove filesystem"):
        await world.engine.container_remove("c1")
    assert (await world.engine.container_inspect("c1"))["State"]["Status"] == "dead"
    world.snapshots.fail_remove = None
    await world.engine.container_remove("c1")
    assert not world.context.containers


async def test_restart_stops_and_starts_and_says_so(world: World) -> None:
    first = await world.run()
    await world.engine.container_restart("c1")
    assert first.signals == [15]
    assert world.runtime.last is not first
    assert world.actions()[-5:] == ["kill", "die", "stop", "start", "restart"]


async def test_restart_does_not_remove_an_auto_remove_container(world: World) -> None:
    await world.run(HostConfig={"AutoRemove": True})
    await world.engine.container_restart("c1")
    assert (await world.engine.container_inspect("c1"))["State"]["Running"]


async def test_rename_frees_the_old_name(world: World) -> None:
    await world.create("old")
    await world.engine.container_rename("old", "new")
    assert (await world.engine.container_inspect("new"))["Name"] == "/new"
    await world.create("old")
    with pytest.raises(Conflict, match="already in use"):
        await world.engine.container_rename("new", "old")
    with pytest.raises(InvalidParameter, match="same name as its current name"):
        await world.engine.container_rename("new", "new")
    event = next(e for e in world.context.events._history if e["Action"] == "rename")
    assert event["Actor"]["Attributes"]["oldName"] == "/old"


async def test_any_unambiguous_prefix_of_the_id_finds_it(world: World) -> None:
    identifier = await world.create()
    assert (await world.engine.container_inspect(identifier[:5]))["Id"] == identifier


async def test_an_ambiguous_prefix_is_an_error(world: World) -> None:
    first = await world.create("c1")
    container = world.context.containers[first]
    world.context.containers[first[:-1] + ("0" if first[-1] != "0" else "1")] = container
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: "):
        world.context.find(first[:10])


async def test_waiting_for_removal_gives_the_exit_code_after_it(world: World) -> None:
    await world.create(HostConfig={"AutoRemove": True})
    waiter = await world.engine.container_wait("c1", condition="removed")
    await world.engine.container_start("c1")
    world.runtime.last.exit(5)
    assert await waiter == {"StatusCode": 5}
    assert not world.context.containers


async def test_waiting_on_what_does_not_run_answers_at_once(world: World) -> None:
    await world.create()
    assert await (await world.engine.container_wait("c1")) == {"StatusCode": 0}
    with pytest.raises(NotFound):
        await world.engine.container_wait("nosuch")
    with pytest.raises(InvalidParameter):
        await world.engine.container_wait("c1", condition="never")


async def test_a_waiter_that_hangs_up_is_forgotten(world: World) -> None:
    await world.run()
    waiter = asyncio.ensure_future(await world.engine.container_wait("c1"))
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await asyncio.sleep(0)  # the future's callbacks
    assert world.context.find("c1").waiters == {"not-running": []}


async def test_a_waiter_for_a_removal_that_fails_is_told(world: World) -> None:
    await world.create()
    waiter = await world.engine.container_wait("c1", condition="removed")
    world.snapshots.fail_remove = OSError(16, "Device or resource busy")
    with pytest.raises(SystemFailure):
        await world.engine.container_remove("c1")
    assert (await waiter)["Error"]["Message"] == "removal failed: Device or resource busy"
    world.snapshots.fail_remove = None


async def test_next_exit_waits_for_the_run_that_comes(world: World) -> None:
    await world.create()
    waiter = asyncio.ensure_future(await world.engine.container_wait("c1", condition="next-exit"))
    await world.engine.container_start("c1")
    assert not waiter.done()
    world.runtime.last.exit(4)
    assert await waiter == {"StatusCode": 4}


async def test_an_out_of_memory_end_is_remembered_and_told(world: World) -> None:
    (await world.run()).exit(137, oom_killed=True)
    await world.ended()
    assert (await world.engine.container_inspect("c1"))["State"]["OOMKilled"] is True
    assert world.actions()[-2:] == ["oom", "die"]


async def test_update_changes_limits_of_a_running_container(world: World) -> None:
    shim = await world.run(HostConfig={"Memory": 64 << 20})
    found = await world.engine.container_update("c1", {"Memory": 96 << 20, "MemorySwap": -1})
    assert found == {"Warnings": []}
    assert shim.updates[0].memory_bytes == 96 << 20
    host = (await world.engine.container_inspect("c1"))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (96 << 20, -1)
    with pytest.raises(InvalidParameter, match="Minimum memory limit allowed is 6MB"):
        await world.engine.container_update("c1", {"Memory": 1 << 20, "MemorySwap": -1})


@pytest.mark.parametrize("port", ["99999/tcp", "80/quic", "x/tcp", "0/tcp"])
async def test_ports_that_mean_nothing_are_refused(world: World, port: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid port specification"):
        await world.create(HostConfig={"PortBindings": {port: [{"HostPort": "8080"}]}})


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("mine", "failed to set up container networking: network mine not found"),
        ("container:nosuch", "joining network namespace of container: No such container: nosuch"),
    ],
)
async def test_an_unknown_network_is_noticed_at_the_start(
    world: World, mode: str, words: str
) -> None:
    # At create a 404 would mean a missing image to the client, which would pull it.
    await world.create(HostConfig={"NetworkMode": mode})
    with pytest.raises(NotFound) as caught:
        await world.engine.container_start("c1")
    assert caught.value.message == words


async def test_limits_that_do_not_hold_are_warned_about(world: World) -> None:
    world.runtime.warnings = ["no memory limit here"]
    found = await world.engine.container_create({"Image": "busybox"})
    assert found["Warnings"] == ["no memory limit here"]


async def test_the_default_network_is_the_bridge(world: World) -> None:
    found = await world.engine.container_create({"Image": "busybox"})
    shown = await world.engine.container_inspect(found["Id"])
    assert shown["HostConfig"]["NetworkMode"] == "bridge"
    assert list(shown["NetworkSettings"]["Networks"]) == ["bridge"]


async def test_image_and_request_are_merged_into_path_and_args(world: World) -> None:
    world.images.add(fake_image("tool", Entrypoint=["/tool"], Cmd=["--help"], WorkingDir="/srv"))
    await world.run("c1", Image="tool")
    spec = world.runtime.specs[-1]
    assert spec.process.args == ("/tool", "--help")
    assert spec.process.cwd == "/srv"
    assert (world.snapshots.folder / spec.id / "srv").is_dir()
    await world.run("c2", Image="tool", Cmd=["run"])
    assert world.runtime.specs[-1].process.args == ("/tool", "run")
    await world.run("c3", Image="tool", Entrypoint=["/bin/sh"])
    assert world.runtime.specs[-1].process.args == ("/bin/sh",)


async def test_the_process_gets_dockers_environment(world: World) -> None:
    await world.run(Env=["A=1", "PATH=/mine"], Tty=True, Hostname="box")
    assert world.runtime.specs[-1].process.env == (
        "PATH=/mine",
        "HOSTNAME=box",
        "TERM=xterm",
        "A=1",
        "HOME=/root",
    )


async def test_the_user_is_looked_up_in_the_images_own_files(world: World) -> None:
    await world.run("c1", User="ana")
    process = world.runtime.specs[-1].process
    assert (process.uid, process.gid, process.groups) == (1000, 1000, (1000, 10))
    assert "HOME=/home/ana" in process.env
    await world.run("c2", User="7:wheel")
    process = world.runtime.specs[-1].process
    assert (process.uid, process.gid) == (7, 10)
    await world.create("c3", User="nobody-here")
    with pytest.raises(InvalidParameter, match="unable to find user nobody-here"):
        await world.engine.container_start("c3")


async def test_prune_removes_only_what_does_not_run(world: World) -> None:
    await world.create("old", Labels={"keep": "no"})
    await world.run("live")
    await world.create("kept", Labels={"keep": "yes"})
    found = await world.engine.container_prune({"label!": ["keep=yes"]})
    assert len(found["ContainersDeleted"]) == 1
    assert set(world.context.names) == {"live", "kept"}
    assert found["SpaceReclaimed"] == 10


async def test_stop_all_keeps_restart_policies_in_force(world: World) -> None:
    await world.run(HostConfig={"RestartPolicy": {"Name": "unless-stopped"}})
    await world.engine.stop_all()
    container = world.context.find("c1")
    assert container.state.status == "exited"
    assert not container.state.manually_stopped
