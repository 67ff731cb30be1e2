"""Rumours: who is alive, who is suspected, who speaks up, and how long until everybody knows."""

from __future__ import annotations

import pytest

from labkit.base.errors import Conflict, InvalidParameter
from labkit.cluster.gossip import Gossip, GossipOptions, Member, Record, Status, Table
from labkit.cluster.gossip.simulation import Group, measure
from labkit.cluster.gossip.types import Ack, Ping, PingRequest, Sync
from labkit.world.sim.network import Link
from labkit.world.sim.rng import seeded


def acquainted(*others: int, **options: int) -> Gossip:
    node = Gossip(1, seeded(1), GossipOptions(**options))
    node.receive(Sync(2, tuple(Member(o, 0, Status.ALIVE) for o in others), (), False))
    node.take()
    return node


def until_sent(node: Gossip, kind: type, ticks: int = 100) -> list[tuple[int, object]]:
    for _ in range(ticks):
        node.tick()
        found = [(to, m) for to, m in node.take()[0] if isinstance(m, kind)]
        if found:
            return found
    raise AssertionError(f"no {kind.__name__} within {ticks} ticks")


# -- SWIM, section by section --------------------------------------------------------------------


def test_3_1_each_period_one_node_is_pinged() -> None:
    node = acquainted(2, 3, 4)
    pings = []
    for _ in range(30):
        node.tick()
        for to, message in node.take()[0]:
            if isinstance(message, Ping):
                pings.append(to)
                node.receive(Ack(to, message.number, ()))
    assert len(pings) == 3
    assert sorted(pings) == [2, 3, 4], "4.3: everybody once before anybody twice"


def test_3_1_without_an_answer_others_are_asked_to_try() -> None:
    node = acquainted(2, 3, 4, 5, 6)
    ((target, ping),) = until_sent(node, Ping)
    requests = until_sent(node, PingRequest)
    assert len(requests) == 3
    assert all(m.target == target for _, m in requests)  # type: ignore[attr-defined]
    assert target not in [to for to, _ in requests]
    node.receive(Ack(9, ping.number, ()))  # type: ignore[attr-defined]
    for _ in range(10):
        node.tick()
    assert node.members[target].status is Status.ALIVE, "somebody reached it"


def test_3_1_a_helper_passes_the_answer_on() -> None:
    helper = acquainted(2, 3)
    helper.receive(PingRequest(2, 77, 3, ()))
    ((target, ping),) = helper.take()[0]
    assert target == 3
    helper.receive(Ack(3, ping.number, ()))
    ((back, ack),) = helper.take()[0]
    assert (back, ack.number) == (2, 77)


def test_4_2_without_any_answer_a_node_is_suspected_and_only_later_dead() -> None:
    node = acquainted(2, 3)
    ((target, _),) = until_sent(node, Ping)
    for _ in range(10):
        node.tick()
    assert node.members[target].status is Status.SUSPECT
    assert target in node.alive()
    for _ in range(100):
        node.tick()
    assert node.members[target].status is Status.DEAD
    assert target not in node.alive()


def test_4_2_who_is_suspected_speaks_up_with_a_higher_incarnation() -> None:
    node = acquainted(2, 3)
    node.receive(Ping(2, 1, (Member(1, 0, Status.SUSPECT),)))
    ((_, ack),) = node.take()[0]
    assert Member(1, 1, Status.ALIVE) in ack.rumours


def test_4_2_which_rumour_wins() -> None:
    def member(incarnation: int, status: Status) -> Member:
        return Member(7, incarnation, status)

    alive, suspect, dead = Status.ALIVE, Status.SUSPECT, Status.DEAD
    assert member(1, alive).overrides(member(0, suspect))
    assert not member(1, alive).overrides(member(1, suspect))
    assert member(1, suspect).overrides(member(1, alive))
    assert not member(0, suspect).overrides(member(1, alive))
    assert member(1, dead).overrides(member(1, suspect))
    assert member(2, alive).overrides(member(1, dead)), "it came back"
    assert not member(1, alive).overrides(member(1, dead))


def test_who_leaves_is_not_suspected() -> None:
    group = Group(5)
    group.run(3)
    group.members[5].leave()
    group.carry(5)
    group.kill(5)
    group.run(5)
    assert {m.members[5].status for m in group.running()} == {Status.LEFT}


def test_who_died_and_restarts_is_welcomed_back() -> None:
    group = Group(8)
    group.kill(3)
    assert group.until(lambda: all(3 not in m.alive() for m in group.running())) is not None
    group.add(3).join([1])
    group.carry(3)
    took = group.until(lambda: all(3 in m.alive() for m in group.running()), 60)
    assert took is not None
    assert group.members[3].members[3].incarnation == 1


def test_a_slow_network_alone_kills_nobody() -> None:
    group = Group(20, 3, link=Link(20_000_000, 60_000_000, loss=0.05))
    group.run(120)
    assert all(len(m.alive()) == 20 for m in group.running())


def test_strangers_who_know_one_of_the_group_meet_everybody() -> None:
    group = Group(30, 2, acquainted=False)
    for node in range(2, 31):
        group.members[node].join([1])
        group.carry(node)
    assert group.until(lambda: all(len(m.alive()) == 30 for m in group.running()), 60) is not None


def test_after_a_partition_both_sides_find_each_other_again() -> None:
    group = Group(10, 4, options=GossipOptions(sync_periods=5))
    group.network.cut([1, 2, 3], range(4, 11))
    group.run(20)
    group.network.heal()
    assert group.until(lambda: all(len(m.alive()) == 10 for m in group.running()), 240) is not None


def test_nonsense_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="cannot make sense"):
        Gossip(1, seeded(0)).receive("hello")  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter):
        GossipOptions(ping_ticks=10)


# -- the endpoint table --------------------------------------------------------------------------


def test_copies_agree_in_whatever_order_news_arrives() -> None:
    news = [Record("a", 1, 1, "x"), Record("a", 1, 3, None), Record("a", 2, 4, "y")]
    for order in (news, news[::-1], [news[1], news[0], news[2]]):
        table = Table(9)
        assert any(list(table.news(order)))
        assert table.live() == {"a": "y"}
        assert table.clock == 4


def test_a_late_old_line_does_not_come_back_from_the_dead() -> None:
    table = Table(9)
    table.merge(Record("a", 1, 2, None))
    assert not table.merge(Record("a", 1, 1, "x"))
    assert table.live() == {}


def test_only_the_owner_writes_a_line() -> None:
    table = Table(2)
    table.merge(Record("a", 1, 1, "x"))
    with pytest.raises(Conflict, match="belongs to node 1"):
        table.put("a", "mine")
    table.merge(Record("a", 1, 2, None))
    table.put("a", "mine now")


def test_the_lines_of_a_dead_node_go_with_it() -> None:
    group = Group(6)
    group.members[6].put("web.1", "10.0.0.3")
    assert group.until(lambda: all(m.table.live() for m in group.running()), 30) is not None
    group.kill(6)
    assert group.until(lambda: not any(m.table.live() for m in group.running()), 120) is not None


def test_tombstones_are_forgotten_in_the_end() -> None:
    table = Table(1)
    table.put("a", "x")
    table.delete("a", tick=5)
    table.reap(5)
    assert len(table.everything()) == 1
    table.reap(6)
    assert table.everything() == ()


@pytest.mark.parametrize("size", [3, 10, 100])
def test_everybody_knows_soon(size: int) -> None:
    found = measure(size, seed=size)
    assert None not in (
        found.endpoint_everywhere_s,
        found.death_everywhere_s,
        found.newcomer_everywhere_s,
    ), found


def test_an_endpoint_reaches_a_thousand_nodes() -> None:
    group = Group(1000, 1)
    group.members[1].put("web.1", "10.0.0.3")
    assert group.until(lambda: all(m.table.get("web.1") for m in group.running()), 30) is not None


# -- scopes --------------------------------------------------------------------------------------


def test_a_line_of_a_scope_reaches_those_who_entered_it_and_nobody_else() -> None:
    group = Group(30, seed=5)
    inside = (2, 7, 11, 19, 23)
    for node in inside:
        group.members[node].enter("overlay-1")
    group.run(5.0)
    assert group.members[1].members_of("overlay-1") == set(inside)
    group.members[2].put("web.1", "10.0.1.3", "overlay-1")
    took = group.until(
        lambda: all(group.members[node].table.get("web.1") == "10.0.1.3" for node in inside)
    )
    assert took is not None
    group.run(40.0)  # full exchanges have happened as well
    for node, member in group.members.items():
        assert (member.table.get("web.1") is not None) == (node in inside)


def test_who_enters_a_scope_later_catches_up_and_who_leaves_forgets() -> None:
    group = Group(10, seed=6)
    for node in (1, 2, 3):
        group.members[node].enter("net")
    group.run(3.0)
    group.members[1].put("a", "1", "net")
    group.members[2].put("b", "2", "net")
    group.run(5.0)
    group.members[9].enter("net")
    group.carry(9)
    took = group.until(lambda: {"a", "b"} <= group.members[9].table.live().keys())
    assert took is not None
    group.members[2].leave_scope("net")
    group.carry(2)
    assert "a" not in group.members[2].table.live()
    took = group.until(
        lambda: all("b" not in group.members[node].table.live() for node in (1, 3, 9))
    )
    assert took is not None
    everybody = group.members.values()
    assert group.until(lambda: all(2 not in m.members_of("net") for m in everybody)) is not None


def test_the_lines_of_a_dead_node_leave_its_scopes() -> None:
    group = Group(8, seed=7)
    for node in (1, 2, 3):
        group.members[node].enter("net")
    group.run(3.0)
    group.members[3].put("c", "3", "net")
    group.run(3.0)
    group.kill(3)
    took = group.until(lambda: all("c" not in m.table.live() for m in group.running()))
    assert took is not None
    assert group.members[1].members_of("net") == {1, 2}


def test_a_scope_that_was_not_entered_cannot_be_written() -> None:
    group = Group(3)
    with pytest.raises(InvalidParameter, match="is not in scope"):
        group.members[1].put("k", "v", "net")
    with pytest.raises(InvalidParameter, match="needs a name"):
        group.members[1].enter("")
