"""Restart policies, and what a new engine makes of what an old one left."""

from __future__ import annotations

import asyncio

import pytest
from engine_fakes import World

from labkit.host.engine.container import State
from labkit.host.engine.hostconfig import RestartPolicy
from labkit.host.engine.restarting import after_exit, on_engine_start

ALWAYS = {"RestartPolicy": {"Name": "always"}}


def test_the_wait_doubles_from_100_ms_to_a_minute_and_starts_anew_after_ten_seconds() -> None:
    policy, state, waits = RestartPolicy("always"), State(), []
    for _ in range(12):
        decision = after_exit(policy, state, code=1, ran_ns=0)
        waits.append(decision.wait_ms)
        state = state.changed(backoff_ms=decision.wait_ms)
    assert waits[:4] == [100, 200, 400, 800]
    assert waits[-1] == 60_000
    assert after_exit(policy, state, code=1, ran_ns=10_000_000_000).wait_ms == 100


@pytest.mark.parametrize(
    ("name", "count", "code", "stopped", "restarts"),
    [
        ("no", 0, 1, False, False),
        ("always", 0, 0, False, True),
        ("always", 0, 0, True, False),
        ("unless-stopped", 0, 1, False, True),
        ("on-failure", 0, 1, False, True),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 2, 1, False, False),
        ("on-failure", 3, 1, False, True),
    ],
)
def test_each_policy_decides_as_docker_does(
    name: str, count: int, code: int, stopped: bool, restarts: bool
) -> None:
    state = State(restart_count=2, manually_stopped=stopped)
    assert after_exit(RestartPolicy(name, count), state, code=code, ran_ns=0).restart is restarts


@pytest.mark.parametrize(
    ("name", "stopped", "code", "starts"),
    [
        ("no", False, 1, False),
        ("always", True, 0, True),
        ("unless-stopped", True, 0, False),
        ("unless-stopped", False, 0, True),
        ("on-failure", False, 1, True),
        ("on-failure", False, 0, False),
    ],
)
def test_a_new_engine_starts_what_the_policy_says(
    name: str, stopped: bool, code: int, starts: bool
) -> None:
    state = State(status="exited", started_at_ns=1, manually_stopped=stopped, exit_code=code)
    assert on_engine_start(RestartPolicy(name), state) is starts
    assert on_engine_start(RestartPolicy(name), State()) is False


async def _until(world: World, status: str) -> None:
    async with asyncio.timeout(5):
        while world.context.find("c1").state.status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_container_that_always_restarts_runs_again(world: World) -> None:
    first = await world.run(HostConfig=ALWAYS)
    first.exit(1)
    await _until(world, "restarting")
    await _until(world, "running")
    assert world.runtime.last is not first
    state = await world.engine.container_inspect("c1")
    assert state["RestartCount"] == 1


async def test_stopping_between_two_runs_ends_the_restarts(world: World) -> None:
    (await world.run(HostConfig=ALWAYS)).exit(1)
    await _until(world, "restarting")
    await world.engine.container_stop("c1")
    assert world.context.find("c1").state.status == "exited"
    await asyncio.sleep(0.15)
    assert world.context.find("c1").state.status == "exited"


async def test_killing_a_container_that_always_restarts_ends_it(world: World) -> None:
    await world.run(HostConfig=ALWAYS)
    await world.engine.container_kill("c1")
    assert world.context.find("c1").state.status == "exited"


@pytest.mark.parametrize("politely", [True, False])
async def test_a_running_container_is_taken_up_again(world: World, politely: bool) -> None:
    shim = await world.run()
    before = await world.engine.container_inspect("c1")
    await world.reopen(politely=politely)
    after = await world.engine.container_inspect("c1")
    assert after["State"]["Pid"] == shim.init_pid
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert after["Config"] == before["Config"]
    assert after["HostConfig"] == before["HostConfig"]
    shim.exit(4)
    await world.ended()
    assert world.context.find("c1").state.exit_code == 4


async def test_an_exit_code_recorded_while_nobody_looked_is_collected(world: World) -> None:
    shim = await world.run()
    await world.engine.close()
    shim.exit(42)
    await world.reopen(politely=False)
    state = (await world.engine.container_inspect("c1"))["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 42)
    assert world.actions()[-1] == "die"


async def test_an_auto_remove_container_that_ended_meanwhile_is_removed(world: World) -> None:
    shim = await world.run(HostConfig={"AutoRemove": True})
    await world.engine.close()
    shim.exit(0)
    await world.reopen(politely=False)
    assert not world.context.containers
    assert not world.snapshots.containers()


async def test_an_auto_remove_container_whose_end_was_recorded_is_removed(world: World) -> None:
    await world.create(HostConfig={"AutoRemove": True})
    container = world.context.find("c1")
    row = ("UPDATE containers SET state = ? WHERE id = ?", ('{"status": "exited"}', container.id))
    await world.context.records.write(row)
    await world.reopen(politely=False)
    assert not world.context.containers


async def test_a_half_made_container_is_thrown_away(world: World) -> None:
    identifier = "ab" * 32
    (world.context.data / "containers" / identifier).mkdir()
    world.snapshots.prepare(identifier, None)
    await world.reopen()
    assert not (world.context.data / "containers" / identifier).exists()
    assert not world.snapshots.containers()


async def test_groups_of_starts_that_came_to_nothing_go_and_others_stay(world: World) -> None:
    shim = await world.run()
    live = world.context.find("c1").id
    world.runtime.cgroups.present = {"ab" * 32, live, "box-1"}
    await world.reopen(politely=False)
    assert world.runtime.cgroups.names() == sorted([live, "box-1"])
    shim.exit()


async def test_a_removal_that_was_interrupted_is_finished(world: World) -> None:
    await world.create()
    container = world.context.find("c1")
    await world.context.transit(container, "remove", container.state)
    await world.reopen()
    assert not world.context.containers
    assert not list((world.context.data / "containers").iterdir())


async def test_a_start_that_was_not_recorded_is_finished(world: World) -> None:
    await world.run()
    container = world.context.find("c1")
    row = ("UPDATE containers SET state = ? WHERE id = ?", ('{"status": "created"}', container.id))
    await world.context.records.write(row)
    await world.reopen(politely=False)
    assert world.context.find("c1").state.status == "running"
    assert world.runtime.last.released


async def test_a_start_whose_process_is_gone_and_was_not_recorded_is_undone(world: World) -> None:
    await world.create()
    container = world.context.find("c1")
    (world.context.folder(container.id) / "shim").mkdir()
    await world.reopen(politely=False)
    assert world.context.find("c1").state.status == "created"
    assert not (world.context.folder(container.id) / "shim").exists()


async def test_an_exec_whose_start_was_not_recorded_is_ended(world: World) -> None:
    await world.run()
    created = await world.engine.exec_create("c1", {"Cmd": ["sleep", "9"]})
    await world.engine.exec_start(created["Id"], {"Detach": True})
    shim = world.runtime.last
    await world.context.records.write(("DELETE FROM execs", ()))
    await world.reopen(politely=False)
    assert shim.signals == [9]
    assert not shim.directory.exists()
    assert world.context.find("c1").state.status == "running"


async def test_names_history_and_events_survive(world: World) -> None:
    (await world.run()).exit(0)
    await world.ended()
    actions = world.actions()
    await world.reopen()
    assert world.actions() == actions
    view = world.engine.lifecycle()
    assert [change["action"] for change in view["containers"][0]["history"]] == [
        "create", "start", "die",
    ]  # fmt: skip


async def test_restart_policies_are_honoured_by_a_new_engine(world: World) -> None:
    shim = await world.run(HostConfig=ALWAYS)
    await world.engine.close()
    shim.exit(1)
    await world.reopen(politely=False)
    await _until(world, "running")
