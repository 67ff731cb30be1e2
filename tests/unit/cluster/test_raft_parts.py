"""The parts that Raft is made of, each against its own definition."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft.errors import BadMessage
from labkit.cluster.raft.log import Log
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.quorum import agreed_index, has_quorum, is_lost, majority
from labkit.cluster.raft.types import (
    Append,
    Config,
    Entry,
    EntryKind,
    InstallSnapshot,
    ReadResponse,
    Role,
    Vote,
)
from labkit.cluster.raft.wire import pack, unpack
from labkit.world.sim.rng import seeded

servers = st.frozensets(st.integers(1, 7), min_size=1)
configs = st.builds(Config, servers, st.one_of(st.just(frozenset()), servers))


def entries(terms: list[int], start: int = 1) -> list[Entry]:
    return [Entry(i, term, EntryKind.COMMAND, i) for i, term in enumerate(sorted(terms), start)]


# -- quorums -------------------------------------------------------------------------------------


def test_why_odd_a_fourth_server_survives_no_more_losses_than_three() -> None:
    assert [count - majority(count) for count in range(1, 8)] == [0, 0, 1, 1, 2, 2, 3]


@given(configs, servers, servers)
def test_two_quorums_of_one_configuration_share_a_server(
    config: Config, one: frozenset[int], other: frozenset[int]
) -> None:
    if has_quorum(config, one) and has_quorum(config, other):
        assert one & other


@given(servers, servers, servers, servers)
def test_the_old_and_the_joint_and_the_new_configuration_never_decide_apart(
    old: frozenset[int], new: frozenset[int], one: frozenset[int], other: frozenset[int]
) -> None:
    joint = Config(new, old)
    for plain in (Config(old), Config(new)):
        if has_quorum(plain, one) and has_quorum(joint, other):
            assert one & other


@given(configs, servers)
def test_an_election_is_lost_when_the_rest_is_no_quorum(
    config: Config, refusers: frozenset[int]
) -> None:
    rest = (config.voters | config.outgoing) - refusers
    assert is_lost(config, refusers) == (not has_quorum(config, rest))


@given(configs, st.dictionaries(st.integers(1, 7), st.integers(0, 9)))
def test_the_agreed_index_is_the_highest_that_a_quorum_holds(
    config: Config, match: dict[int, int]
) -> None:
    def held(index: int) -> bool:
        return has_quorum(config, {node for node, high in match.items() if high >= index})

    found = agreed_index(config, match)
    assert found == 0 or held(found)
    assert not held(found + 1)


# -- the log -------------------------------------------------------------------------------------


def test_a_log_with_a_gap_or_a_falling_term_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        Log([Entry(2, 1, EntryKind.COMMAND, "")])
    with pytest.raises(InvalidParameter):
        Log([Entry(1, 2, EntryKind.COMMAND, ""), Entry(2, 1, EntryKind.COMMAND, "")])


@given(st.lists(st.integers(1, 5)), st.integers(0, 12), st.integers(0, 6))
def test_a_log_is_the_list_it_was_made_of(terms: list[int], start: int, term: int) -> None:
    made = entries(terms)
    log = Log(made)
    assert list(log.slice(1, len(made) + 1)) == made
    assert [log.term_at(i) for i in range(len(made) + 2)] == [0, *sorted(terms), None]
    index, found = log.last_index_of_term_at_most(term, start)
    fitting = [0, *(e.index for e in made if e.index <= start and e.term <= term)]
    assert (index, found) == (fitting[-1], log.term_at(index))


@given(st.lists(st.integers(1, 5), min_size=1), st.data())
def test_compaction_forgets_entries_and_nothing_else(terms: list[int], data: st.DataObject) -> None:
    made = entries(terms)
    log = Log(made)
    index = data.draw(st.integers(1, len(made)))
    log.compact_to(index)
    assert (log.snapshot_index, log.snapshot_term) == (index, made[index - 1].term)
    assert (log.last_index, log.last_term) == (made[-1].index, made[-1].term)
    assert list(log.slice(index + 1, len(made) + 1)) == made[index:]


@given(st.lists(st.integers(1, 3)), st.lists(st.integers(1, 3)))
def test_of_two_logs_at_least_one_is_up_to_date_for_the_other(a: list[int], b: list[int]) -> None:
    one, other = Log(entries(a)), Log(entries(b))
    forth = one.is_up_to_date(other.last_index, other.last_term)
    back = other.is_up_to_date(one.last_index, one.last_term)
    assert forth or back
    same_end = (one.last_index, one.last_term) == (other.last_index, other.last_term)
    assert (forth and back) == same_end


# -- messages from outside -----------------------------------------------------------------------

MESSAGES = [
    Vote(3, 1, 7, 2, True, False),
    Append(3, 1, 7, 2, tuple(entries([3, 3], start=8)), 6, 40),
    Append(
        1,
        2,
        0,
        0,
        (Entry(1, 1, EntryKind.CONFIG, Config(frozenset((1, 2)), frozenset((3,)))),),
        0,
        1,
    ),
    InstallSnapshot(3, 1, 7, 2, Config(frozenset((1,))), 0, b"\0\xff", False, 4),
    ReadResponse(3, 1, "who", -1),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_survives_the_wire(message: object) -> None:
    assert unpack(json.loads(json.dumps(pack(message)))) == message  # type: ignore[arg-type]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_with_any_field_of_another_kind_is_refused(message: object) -> None:
    packed = pack(message)  # type: ignore[arg-type]
    for place, bad in itertools.product(range(len(packed)), (None, 1.5, -2, [1], {"a": 1})):
        wrong = [*packed]
        wrong[place] = bad
        with pytest.raises(BadMessage):
            unpack(wrong)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("Append"),
    lambda inner: st.lists(inner, max_size=9),
)


@given(anything)
def test_nonsense_is_refused_with_a_named_error(nonsense: object) -> None:
    with suppress(BadMessage):
        unpack(nonsense)


def test_a_server_that_is_told_to_stands_at_once_and_a_leader_or_a_learner_does_not() -> None:
    alone = Node(1, Config(frozenset({1})), seeded(1))
    alone.campaign()
    assert (alone.role, alone.term) == (Role.LEADER, 1)
    alone.campaign()
    assert alone.term == 1
    asked = Node(1, Config(frozenset({1, 2, 3})), seeded(1))
    asked.campaign()
    assert asked.role is Role.PRE_CANDIDATE
    assert len(asked.take().messages) == 2
    learner = Node(4, Config(frozenset({1, 2, 3}), frozenset(), frozenset({4})), seeded(1))
    learner.campaign()
    assert learner.role is Role.FOLLOWER
