"""Nodes, swarm and chaos without namespaces: everything decides, nothing is started."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, NotFound, Unavailable
from labkit.base.paths import LabPaths
from labkit.cluster.store import Put, Range
from labkit.daemon.fleet import Fleet
from labkit.daemon.ground import Ground
from labkit.host.isolation.probe import Probe
from tests.unit.swarm.swarm_group import until

HOLLOW = Probe("hollow", "none", frozenset(), False, False, False, ())


@pytest.fixture
async def fleet(lab_paths: LabPaths) -> AsyncIterator[Fleet]:
    fleet = Fleet(lab_paths, Ground("hollow", HOLLOW, None))
    await fleet.open()
    yield fleet
    await fleet.close()


async def up(fleet: Fleet, managers: int = 3, workers: int = 2) -> None:
    await fleet.swarm_up(managers, workers, clock="fast", hollow=True)


async def a_leader(fleet: Fleet) -> str:
    swarm = fleet.need_swarm()
    await until(lambda: swarm.leader() is not None)
    leader = swarm.leader()
    assert leader is not None
    return leader.name


# -- nodes ---------------------------------------------------------------------------------------


async def test_a_thousand_hollow_nodes_are_added_listed_and_remembered(
    fleet: Fleet, lab_paths: LabPaths
) -> None:
    made = await fleet.nodes.add([], 1000, hollow=True)
    assert [made[0].name, made[-1].name] == ["node-1", "node-1000"]
    addresses = {node.address for node in made}
    assert len(addresses) == 1000
    assert "192.168.99.1" not in addresses
    again = Fleet(lab_paths, Ground("hollow", HOLLOW, None))
    await again.open()
    assert len(again.nodes.to_json()) == 1001
    await again.close()


async def test_addresses_of_nodes_that_went_are_given_again(fleet: Fleet) -> None:
    await fleet.nodes.add(["a", "b", "c"], hollow=True)
    address = fleet.nodes.get("b").address
    await fleet.remove_nodes(["b"])
    (node,) = await fleet.nodes.add(["d"], hollow=True)
    assert node.address == address


async def test_a_node_stops_pauses_and_goes(fleet: Fleet) -> None:
    await fleet.nodes.add(["a", "b"])
    for action, status in (
        ("stop", "stopped"),
        ("start", "running"),
        ("pause", "paused"),
        ("unpause", "running"),
        ("kill", "dead"),
    ):
        assert (await fleet.change_node("a", action)).status == status
    await fleet.remove_nodes(["a"])
    with pytest.raises(NotFound, match="no node 'a'"):
        fleet.nodes.get("a")


@pytest.mark.parametrize(
    ("names", "count", "words"),
    [
        (["default"], 0, "cannot be the name"),
        (["leader"], 0, "cannot be the name"),
        (["../x"], 0, "cannot be the name"),
        (["x" * 33], 0, "cannot be the name"),
        (["x", "x"], 0, "given twice"),
        ([], 5000, "1 to 3000"),
        ([], -1, "cannot add -1"),
    ],
)
async def test_names_and_numbers_that_make_no_nodes(
    fleet: Fleet, names: list[str], count: int, words: str
) -> None:
    with pytest.raises(InvalidParameter, match=words):
        await fleet.nodes.add(names, count)
    assert not fleet.nodes.all


async def test_a_windows_node_is_hollow_or_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidParameter, match="cannot run processes here"):
        await fleet.nodes.add(["w"], platform="windows/amd64")
    (node,) = await fleet.nodes.add(["w"], platform="windows/amd64", hollow=True)
    assert node.to_json()["platform"] == "windows/amd64"
    with pytest.raises(InvalidParameter, match="is not a platform"):
        await fleet.nodes.add(["v"], platform="amiga")


# -- swarm ---------------------------------------------------------------------------------------


async def test_a_swarm_comes_up_and_knows_its_nodes(fleet: Fleet) -> None:
    await up(fleet)
    status = fleet.need_swarm().status()
    assert (status["managers"], status["quorum"], status["may_fail"]) == (3, 2, 1)
    assert status["leader"] == await a_leader(fleet)
    found = await fleet.need_swarm().read(Range("/nodes/", "/nodes0"))
    assert {kv.key: kv.value for kv in found.values} == {
        "/nodes/manager-1": "manager",
        "/nodes/manager-2": "manager",
        "/nodes/manager-3": "manager",
        "/nodes/worker-1": "worker",
        "/nodes/worker-2": "worker",
    }
    with pytest.raises(Conflict, match="up already"):
        await up(fleet)
    with pytest.raises(Conflict, match="belongs to the swarm"):
        await fleet.remove_nodes(["worker-1"])


async def test_a_new_swarm_has_its_first_manager_as_leader_at_docker_speed_too(
    fleet: Fleet,
) -> None:
    await fleet.swarm_up(3, 0, clock="docker", hollow=True)
    swarm = fleet.need_swarm()
    leader = swarm.leader()
    assert leader is not None
    assert (leader.name, leader.node.term) == ("manager-1", 1)
    assert leader.node.ticks < 10, "before anybody's patience could have ended"


async def test_sizes_that_make_no_swarm_leave_no_nodes(fleet: Fleet) -> None:
    for managers, workers in ((0, 1), (10, 0), (3, -1)):
        with pytest.raises(InvalidParameter):
            await up(fleet, managers, workers)
    with pytest.raises(InvalidParameter, match="no clock"):
        await fleet.swarm_up(1, 0, clock="quick", hollow=True)
    assert not fleet.nodes.all
    assert fleet.swarm is None


async def test_a_swarm_is_found_again_by_the_next_daemon(fleet: Fleet, lab_paths: LabPaths) -> None:
    await up(fleet)
    await fleet.need_swarm().write(Put("k", "v"))
    await fleet.close()
    again = Fleet(lab_paths, Ground("hollow", HOLLOW, None))
    await again.open()
    try:
        found = await again.need_swarm().read(Range("k"))
        assert [kv.value for kv in found.values] == ["v"]
        assert again.need_swarm().record["clock"] == "fast"
    finally:
        await again.close()


async def test_writes_go_on_exactly_once_while_leaders_are_killed(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    swarm = fleet.need_swarm()

    async def write() -> None:
        for number in range(40):
            await swarm.write(Put("k", str(number)))

    writing = asyncio.ensure_future(write())
    for _ in range(2):
        leader = await a_leader(fleet)
        await fleet.chaos.do("kill", [leader])
        await until(lambda: swarm.leader() is not None)
        await fleet.chaos.do("restart", [leader])
    async with asyncio.timeout(60):
        await writing
    found = await swarm.read(Range("k"))
    assert (found.values[0].value, found.values[0].version) == ("39", 40)


async def test_without_a_majority_the_swarm_says_what_docker_says(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    for name in ("manager-1", "manager-2"):
        await fleet.chaos.do("kill", [name])
    swarm = fleet.need_swarm()
    with pytest.raises(Unavailable, match="does not have a leader"):
        await swarm.write(Put("k", "v"), timeout_s=2)
    with pytest.raises(Unavailable, match="does not have a leader"):
        await swarm.read(Range("k"), timeout_s=1)
    given_up = asyncio.ensure_future(swarm.write(Put("k", "given up")))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await fleet.chaos.do("restart", ["manager-1"])
    await swarm.write(Put("k", "w"))


async def test_going_down_leaves_no_node_and_no_file(fleet: Fleet, lab_paths: LabPaths) -> None:
    await up(fleet)
    await fleet.swarm_down()
    assert not fleet.nodes.all
    assert not (lab_paths.home / "swarm").exists()
    with pytest.raises(Conflict, match="no swarm is up"):
        fleet.need_swarm()


async def test_the_clock_changes_while_the_swarm_runs_and_is_what_is_said(fleet: Fleet) -> None:
    await fleet.swarm_up(1, 0, clock="fast", hollow=True)
    swarm = fleet.need_swarm()
    assert swarm.status()["tick_s"] == 0.05
    swarm.set_clock("docker")
    status = swarm.status()
    assert (status["clock"], status["tick_s"], status["election_ticks"]) == ("docker", 1.0, 10)
    assert swarm.recorder.trace.meta["tick_ns"] == 1_000_000_000
    assert all(member.settings.tick_s == 1.0 for member in swarm.members.values())
    with pytest.raises(InvalidParameter, match="no clock"):
        swarm.set_clock("slow")


# -- chaos ---------------------------------------------------------------------------------------


async def test_a_leader_cut_off_is_replaced_and_follows_after_healing(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    swarm = fleet.need_swarm()
    old = await a_leader(fleet)
    await fleet.chaos.do("partition", ["leader"])
    assert len(fleet.weather.bad()) == 4
    old_member = swarm.named(old)
    await until(lambda: (new := swarm.leader()) is not None and new is not old_member)
    await swarm.write(Put("k", "v"))
    await fleet.chaos.do("heal", [])
    await until(lambda: old_member.node.leader not in (0, old_member.number))
    kinds = {event["kind"] for event in swarm.recorder.trace.page()["events"]}
    assert {"cut", "heal", "chaos"} <= kinds


async def test_slow_and_lossy_wires_carry_on(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    leader = await a_leader(fleet)
    others = ",".join(name for name in fleet.names() if name != leader)
    await fleet.chaos.do("slow", [leader, others], "20ms")
    await fleet.chaos.do("lose", [leader, others], "20%")
    wires = fleet.weather.bad()
    assert {(wire["delay_ms"], wire["loss"]) for wire in wires} == {(20.0, 0.2)}
    await fleet.need_swarm().write(Put("k", "v"))


async def test_a_skewed_clock_still_follows(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    done = await fleet.chaos.do("clock-skew", ["manager-2"], "50%")
    assert fleet.need_swarm().named("manager-2").speed == 1.5
    assert "1.5 times" in done["notes"][0]
    await fleet.need_swarm().write(Put("k", "v"))


async def test_a_paused_node_is_unreachable_and_comes_back(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    leader = await a_leader(fleet)
    follower = next(name for name in fleet.names() if name != leader)
    await fleet.chaos.do("pause", [follower])
    row = next(n for n in fleet.need_swarm().status()["nodes"] if n["name"] == follower)
    assert row["manager"] == "Unreachable"
    with pytest.raises(Conflict, match="paused already"):
        await fleet.chaos.do("pause", [follower])
    await fleet.chaos.do("resume", [follower])
    await fleet.need_swarm().write(Put("k", "v"))


async def test_everything_done_is_written_down_also_what_failed(
    fleet: Fleet, lab_paths: LabPaths
) -> None:
    await up(fleet, 3, 0)
    await fleet.chaos.do("kill", ["manager-1"])
    with pytest.raises(Conflict, match="is down already"):
        await fleet.chaos.do("kill", ["manager-1"])
    lines = (lab_paths.home / "chaos.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [(entry["action"], entry["nodes"]) for entry in entries] == [("kill", ["manager-1"])] * 2
    assert entries[0]["error"] == ""
    assert "down already" in entries[1]["error"]
    assert entries[0]["at"] <= entries[1]["at"]


@pytest.mark.parametrize(
    ("action", "nodes", "amount", "words"),
    [
        ("explode", [], "", "no chaos action"),
        ("kill", [], "", "takes 1 node"),
        ("kill", ["nobody"], "", "no node 'nobody'"),
        ("partition", ["a", "a"], "", "without a node in common"),
        ("partition", ["a", "nobody"], "", "no node 'nobody'"),
        ("slow", ["a", "b"], "", "needs an amount"),
        ("slow", ["a", "b"], "soon", "no duration"),
        ("slow", ["a", "b"], "2m", "more than 60 s"),
        ("lose", ["a", "b"], "120%", "not between"),
        ("clock-skew", ["a"], "10%", "no swarm is up"),
        ("kill", ["leader"], "", "no leader"),
        ("monkey", ["go"], "5s", "cannot read 'go'"),
        ("monkey", [], "1ms", "100 ms between"),
        ("monkey", ["stop"], "", "no monkey"),
    ],
)
async def test_nonsense_is_refused_and_breaks_nothing(
    fleet: Fleet, action: str, nodes: list[str], amount: str, words: str
) -> None:
    await fleet.nodes.add(["a", "b"], hollow=True)
    with pytest.raises(LabkitError, match=words):
        await fleet.chaos.do(action, nodes, amount)
    assert not fleet.weather.bad()
    assert all(node.alive for node in fleet.nodes.all.values())


async def test_a_monkey_breaks_and_mends_until_it_is_sent_home(fleet: Fleet) -> None:
    await up(fleet, 3, 0)
    await fleet.chaos.do("monkey", [], "100ms")
    await until(lambda: sum(entry["by"] == "monkey" for entry in fleet.chaos.log) >= 12)
    await fleet.chaos.do("monkey", ["stop"])
    count = len(fleet.chaos.log)
    assert fleet.chaos.status()["monkey"] == ""
    await fleet.chaos.do("heal", [])
    for name in fleet.names():
        status = fleet.nodes.get(name).status
        if status == "paused":
            await fleet.chaos.do("resume", [name])
        elif status == "dead":
            await fleet.chaos.do("restart", [name])
    await fleet.need_swarm().write(Put("k", "v"))
    assert sum(entry["by"] == "monkey" for entry in fleet.chaos.log[count:]) == 0


async def test_a_damaged_record_is_named_not_overwritten(lab_paths: LabPaths) -> None:
    (lab_paths.home / "nodes.json").write_text("{")
    fleet = Fleet(lab_paths, Ground("hollow", HOLLOW, None))
    with pytest.raises(Conflict, match=r"cannot read .*nodes\.json"):
        await fleet.open()
    assert (lab_paths.home / "nodes.json").read_text() == "{"
