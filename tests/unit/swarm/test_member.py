"""Managers on the wall clock: what is acknowledged survives, what is strange is refused by name."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
from pathlib import Path

import pytest

from labkit.base.errors import LabkitError
from labkit.cluster.raft.errors import NotLeader
from labkit.cluster.store import Once, Put, Range, prefix_end
from tests.unit.swarm.swarm_group import Group, until


async def test_what_is_written_at_the_leader_is_read_at_every_member(trio: Group) -> None:
    leader = await trio.leader()
    await leader.submit(Put("k", "v"))
    for member in trio.members.values():
        found = await member.query(Range("k"))
        assert [kv.value for kv in found.values] == ["v"]


async def test_a_follower_refuses_to_write_and_names_the_leader(trio: Group) -> None:
    leader = await trio.leader()
    follower = next(m for m in trio.members.values() if m is not leader)
    await until(lambda: follower.node.leader == leader.number)
    with pytest.raises(NotLeader, match=f"node {leader.number} does"):
        await follower.submit(Put("k", "v"))


async def test_acknowledged_writes_survive_the_crash_of_everybody(trio: Group) -> None:
    leader = await trio.leader()
    acknowledged: list[int] = []

    async def write(number: int) -> None:
        try:
            await leader.submit(Put(f"k{number}", str(number)))
        except LabkitError:
            return
        acknowledged.append(number)

    tasks = [asyncio.ensure_future(write(number)) for number in range(500)]
    await until(lambda: len(acknowledged) >= 100)
    for member in trio.members.values():
        member.crash()
    await asyncio.gather(*tasks)
    for member in trio.members.values():
        await member.start()
    again = await trio.leader()
    found = await again.query(Range("k", prefix_end("k")))
    values = {kv.value for kv in found.values}
    assert {str(number) for number in acknowledged} <= values
    assert len(acknowledged) >= 100


async def test_a_member_that_was_away_is_brought_up_to_date_by_a_snapshot(trio: Group) -> None:
    leader = await trio.leader()
    away = next(m for m in trio.members.values() if m is not leader)
    away.crash()
    for first in range(0, 600, 100):
        await asyncio.gather(
            *(leader.submit(Put(f"k{n % 7}", str(n))) for n in range(first, first + 100))
        )
    assert leader.node.log.snapshot_index > 0
    await away.start()
    await until(lambda: away.replica.applied >= leader.replica.applied)
    assert away.replica.machine.snapshot() == leader.replica.machine.snapshot()
    away.crash()
    await away.start()
    assert away.node.log.snapshot_index > 0


async def test_a_dead_leader_is_replaced_and_a_resent_command_happens_once(trio: Group) -> None:
    leader = await trio.leader()
    await leader.submit(Once("me", 1, Put("k", "a")))
    leader.crash()
    new = await trio.leader()
    assert new is not leader
    await new.submit(Once("me", 1, Put("k", "a")))
    await new.submit(Once("me", 2, Put("k", "b")))
    found = await new.query(Range("k"))
    assert (found.values[0].value, found.values[0].version) == ("b", 2)


async def test_a_paused_leader_is_replaced_and_wakes_up_as_a_follower(trio: Group) -> None:
    leader = await trio.leader()
    term = leader.node.term
    leader.pause()
    new = await trio.leader()
    assert new is not leader
    leader.resume()
    await until(lambda: leader.node.term > term)
    await until(lambda: leader.node.leader == new.number or trio.leading() is leader)


async def test_a_cut_off_leader_commits_nothing_and_follows_after_healing(trio: Group) -> None:
    leader = await trio.leader()
    others = [m.name for m in trio.members.values() if m is not leader]
    trio.around.weather.cut([leader.name], others)
    lost = asyncio.ensure_future(leader.submit(Put("k", "lost")))
    await until(lambda: trio.leading() not in (None, leader))
    new = await trio.leader()
    await new.submit(Put("k", "kept"))
    trio.around.weather.heal()
    with pytest.raises(LabkitError):
        await lost
    found = await leader.query(Range("k"))
    assert [kv.value for kv in found.values] == ["kept"]


async def test_a_watch_is_told_each_change_as_it_is_applied(trio: Group) -> None:
    leader = await trio.leader()
    follower = next(m for m in trio.members.values() if m is not leader)
    number, queue = follower.watch("a/", prefix_end("a/"), 0)
    for value in "xyz":
        await leader.submit(Put("a/k", value))
    heard: list[str] = []
    async with asyncio.timeout(20):
        while len(heard) < 3:
            notice = await queue.get()
            heard += [event.now.value for event in notice.events if event.now is not None]
    assert heard == ["x", "y", "z"]
    follower.unwatch(number)


# -- strangers and nonsense -----------------------------------------------------------------------


def call(path: Path, *frames: bytes) -> list[dict[str, object]]:
    """Say these frames to a member; what it says before it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        for frame in frames:
            sock.sendall(struct.pack("!I", len(frame)) + frame)
        said = b""
        answers: list[dict[str, object]] = []
        while True:
            chunk = sock.recv(65536)
            if not chunk:
                return answers
            said += chunk
            while len(said) >= 4 and len(said) >= 4 + struct.unpack("!I", said[:4])[0]:
                size = struct.unpack("!I", said[:4])[0]
                answers.append(json.loads(said[4 : 4 + size]))
                said = said[4 + size :]


def hello(**changes: object) -> bytes:
    value = {"labkit": 1, "swarm": "test", "node": 2, "disk": "d", "starts": 99, **changes}
    return json.dumps(value).encode()


async def test_strangers_are_refused_by_name_and_the_member_goes_on(trio: Group) -> None:
    leader = await trio.leader()
    path = trio.around.places[leader.number].path  # type: ignore[attr-defined]
    other = next(number for number in trio.members if number != leader.number)
    for frame, why in (
        (b"hello", "not a JSON object"),
        (b"[" * 5000, "not a JSON object"),
        (hello(swarm="other"), "this is another swarm"),
        (hello(node=77), "no member of this swarm"),
        (hello(node=leader.number), "no member of this swarm"),
        (hello(node="x"), "no member of this swarm"),
        (hello(node=other, starts="many"), "does not say which disk"),
        (hello(node=other), "another disk"),
    ):
        (answer,) = await asyncio.to_thread(call, path, frame)
        assert why in str(answer["refused"]), frame
    assert any("another swarm" in text for text in leader.gate.refusals)
    await leader.submit(Put("k", "v"))


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"\x00\xff", "not JSON"),
        (b"[1]", "not a number and a message"),
        (b'[1,["Vote"]]', "it has 6 fields"),
        (b'[1,["Nonsense",1]]', "there is no kind"),
        (b'[1,["Append",1,2,-5,0,[],0,0]]', "out of range"),
        (b'[1,["Append",1,2,0,0,[[9,1,0,"x"]],0,0]]', "entr"),
        (b'[1,["AppendReply",%d,2,true,999999999,0,0,0]]', "claims entry 999999999"),
        (b'[1,["TimeoutNow",1,3]]', "speaks for"),
    ],
)
async def test_nonsense_from_a_member_cuts_it_off_and_changes_nothing(
    trio: Group, frame: bytes, why: str
) -> None:
    leader = await trio.leader()
    other = next(number for number in trio.members if number != leader.number)
    trio.members[other].crash()
    identity = trio.members[other].identity
    term = leader.node.term
    if b"%d" in frame:
        frame = frame % term
    frame = frame.replace(b",2,", b",%d," % other) if other != 2 else frame
    if b"TimeoutNow" in frame:
        frame = b'[1,["TimeoutNow",1,%d]]' % leader.number
    path = trio.around.places[leader.number].path  # type: ignore[attr-defined]
    introduction = hello(node=other, disk=identity.name, starts=identity.starts)
    answers = await asyncio.to_thread(call, path, introduction, frame)
    assert answers[0] == {"welcome": True}
    assert why in str(answers[-1].get("refused")), answers
    assert leader.bad_messages
    assert leader.node.term == term
    await leader.submit(Put("k", "v"))


async def test_a_disk_restored_from_an_old_copy_is_not_let_in(trio: Group, short_tmp: Path) -> None:
    leader = await trio.leader()
    old = next(m for m in trio.members.values() if m is not leader)
    old.crash()
    shutil.copytree(short_tmp / f"m{old.number}", short_tmp / "copy")
    for _ in range(3):
        await old.start()
        await until(lambda: old.is_connected(leader.number))
        old.crash()
    shutil.rmtree(short_tmp / f"m{old.number}")
    shutil.copytree(short_tmp / "copy", short_tmp / f"m{old.number}")
    await old.start()
    await until(lambda: any("old copy was restored" in text for text in old.gate.refusals))
    assert any("old copy was restored" in text for text in leader.gate.refusals)
    await leader.submit(Put("k", "v"))


async def test_an_empty_disk_under_an_old_name_is_not_let_in(trio: Group, short_tmp: Path) -> None:
    leader = await trio.leader()
    await leader.submit(Put("k", "v"))
    lost = next(m for m in trio.members.values() if m is not leader)
    await until(lambda: lost.is_connected(leader.number))
    lost.crash()
    shutil.rmtree(short_tmp / f"m{lost.number}")
    await lost.start()
    await until(lambda: any("another disk" in text for text in lost.gate.refusals))


async def test_a_journal_that_is_none_is_refused_when_the_member_starts(
    trio: Group, short_tmp: Path
) -> None:
    member = trio.members[1]
    member.crash()
    for name in ("raft.sqlite", "raft.sqlite-wal", "raft.sqlite-shm"):
        (short_tmp / "m1" / name).unlink(missing_ok=True)
    (short_tmp / "m1" / "raft.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LabkitError, match="cannot open the journal"):
        await member.start()
    assert not member.up


async def test_the_live_trace_tells_who_sent_what_to_whom(trio: Group) -> None:
    leader = await trio.leader()
    await leader.submit(Put("k", "v"))
    assert trio.around.recorder is not None
    piece = trio.around.recorder.trace.page()
    kinds = {event["kind"] for event in piece["events"]}
    assert {"boot", "tick", "send", "deliver", "write", "apply", "propose"} <= kinds
    times = [event["t_ns"] for event in piece["events"]]
    assert times == sorted(times)
