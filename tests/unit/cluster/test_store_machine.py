"""The store's state machine: revisions, transactions, leases, watches, compaction, snapshots."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.errors import Conflict, InvalidParameter
from labkit.cluster.store import (
    Compact,
    Compacted,
    Compare,
    Delete,
    FutureRevision,
    Grant,
    Machine,
    NoSuchLease,
    Put,
    Range,
    Revoke,
    Txn,
    prefix_end,
)
from labkit.cluster.store.commands import pack, unpack
from labkit.cluster.store.machine import Result


def done(machine: Machine, *commands: object) -> Result:
    for command in commands:
        result = machine.apply(command)  # type: ignore[arg-type]
        assert isinstance(result, Result), result
    return result


def values(machine: Machine, wanted: Range) -> dict[str, str]:
    return {kv.key: kv.value for kv in machine.range(wanted).values}


def test_a_key_knows_when_it_was_made_and_changed() -> None:
    machine = Machine()
    done(machine, Put("a", "1"), Put("b", "1"), Put("a", "2"))
    (kv,) = machine.range(Range("a")).values
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.version) == ("2", 1, 3, 2)
    done(machine, Delete("a"), Put("a", "3"))
    (kv,) = machine.range(Range("a")).values
    assert (kv.create_revision, kv.version) == (5, 1), "made anew"


def test_the_past_can_be_read() -> None:
    machine = Machine()
    done(machine, Put("a", "1"), Put("a", "2"), Delete("a"))
    assert [values(machine, Range("a", revision=r)).get("a") for r in (1, 2, 3)] == ["1", "2", None]
    with pytest.raises(FutureRevision):
        machine.range(Range("a", revision=9))


def test_ranges_are_sorted_bounded_and_limited() -> None:
    machine = Machine()
    done(machine, *(Put(f"t/{n}", str(n)) for n in (3, 1, 2)), Put("u", "x"))
    assert list(values(machine, Range("t/", prefix_end("t/")))) == ["t/1", "t/2", "t/3"]
    some = machine.range(Range("t/", prefix_end("t/"), limit=2))
    assert (len(some.values), some.more) == (2, True)
    assert len(done(machine, Delete("t/", prefix_end("t/"))).values) == 3
    assert machine.revision == 5, "one command, one revision"


def test_a_command_that_changes_nothing_makes_no_revision() -> None:
    machine = Machine()
    assert done(machine, Put("a", "1"), Delete("nothing"), Range("a")).revision == 1


def test_compare_and_swap_happens_whole_or_not_at_all() -> None:
    machine = Machine()
    create = Txn((Compare("a", "version", "=", 0),), (Put("a", "1"),), (Range("a"),))
    assert done(machine, create).succeeded
    refused = done(machine, create)
    assert not refused.succeeded
    assert refused.parts[0].values[0].value == "1"
    broken = Txn((), (Put("b", "1"), Put("c", "1", lease=9)))
    assert isinstance(machine.apply(broken), NoSuchLease)
    assert values(machine, Range("b")) == {}
    assert isinstance(machine.apply(Txn((), (Put("b", "1"), Put("b", "2")))), InvalidParameter)


def test_a_transaction_sees_its_own_writes() -> None:
    machine = Machine()
    result = done(machine, Txn((), (Put("a", "1"), Range("a"))))
    assert result.parts[1].values[0].value == "1"
    assert machine.revision == 1


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare("a", "value", "=", "x"), True),
        (Compare("a", "value", "!=", "x"), False),
        (Compare("a", "mod", "<", 2), True),
        (Compare("a", "create", ">", 1), False),
        (Compare("a", "lease", "=", 0), True),
        (Compare("none", "value", "=", ""), True),
    ],
)
def test_compares(compare: Compare, holds: bool) -> None:
    machine = Machine()
    done(machine, Put("a", "x"))
    assert done(machine, Txn((compare,), ())).succeeded is holds


def test_keys_go_with_their_lease() -> None:
    machine = Machine()
    done(machine, Grant(7, 10), Put("a", "1", 7), Put("b", "1", 7), Put("b", "2"), Revoke(7))
    assert values(machine, Range("a", "z")) == {"b": "2"}
    assert isinstance(machine.apply(Revoke(7)), NoSuchLease)
    assert isinstance(machine.apply(Put("a", "1", 7)), NoSuchLease)
    done(machine, Grant(8, 1))
    assert isinstance(machine.apply(Grant(8, 1)), Conflict)


def test_a_watch_tells_every_change_once_and_what_was_before() -> None:
    machine = Machine()
    done(machine, Put("a/1", "x"), Put("b", "x"), Put("a/1", "y"), Delete("a/1"))
    seen = [
        (e.revision, e.now and e.now.value, e.before and e.before.value)
        for e in machine.events("a/", prefix_end("a/"), 0)
    ]
    assert seen == [(1, "x", None), (3, "y", "x"), (4, None, "y")]
    assert machine.events("a/", prefix_end("a/"), machine.revision) == []


def test_compaction_forgets_the_past_and_only_that() -> None:
    machine = Machine()
    done(machine, Put("a", "1"), Put("a", "2"), Put("b", "1"), Delete("b"), Put("a", "3"))
    done(machine, Compact(4))
    assert values(machine, Range("a", "z")) == {"a": "3"}
    assert values(machine, Range("a", "z", revision=4)) == {"a": "2"}
    with pytest.raises(Compacted):
        machine.range(Range("a", revision=3))
    with pytest.raises(Compacted):
        machine.events("a", None, 3)
    assert [e.before and e.before.value for e in machine.events("a", None, 4)] == ["2"]
    assert isinstance(machine.apply(Compact(4)), Compacted)
    assert isinstance(machine.apply(Compact(99)), FutureRevision)


keys = st.sampled_from(["a", "b", "c"])
commands = st.one_of(
    st.builds(Put, keys, st.text(max_size=3), st.sampled_from([0, 0, 1])),
    st.builds(Delete, keys, st.sampled_from([None, "c", "d"])),
    st.builds(Grant, st.integers(1, 2), st.integers(1, 9)),
    st.builds(Revoke, st.integers(1, 2)),
    st.builds(Compact, st.integers(0, 9)),
    st.builds(
        Txn,
        st.tuples(st.builds(Compare, keys, st.just("version"), st.just("="), st.integers(0, 2))),
        st.tuples(st.builds(Put, keys, st.text(max_size=2), st.just(0))),
        st.tuples(st.builds(Delete, keys, st.none()), keys.map(Range)),
    ),
)


@settings(deadline=None)
@given(st.lists(commands, max_size=25), st.integers(0, 25))
def test_a_snapshot_is_the_machine(made: list[object], cut: int) -> None:
    whole = Machine()
    for command in made[:cut]:
        whole.apply(command)  # type: ignore[arg-type]
    copy = Machine.restore(whole.snapshot())
    for command in made[cut:]:
        assert repr(whole.apply(command)) == repr(copy.apply(command))  # type: ignore[arg-type]
    assert whole.snapshot() == copy.snapshot()
    after = whole.compacted
    assert whole.events("a", "z", after) == copy.events("a", "z", after)


@settings(deadline=None)
@given(st.lists(commands, max_size=25))
def test_a_watch_from_the_beginning_rebuilds_the_state(made: list[object]) -> None:
    machine = Machine()
    shown: dict[str, str] = {}
    for command in made:
        before = machine.revision
        machine.apply(command)  # type: ignore[arg-type]
        if machine.compacted <= before:
            for event in machine.events("a", "z", before):
                assert (event.before.value if event.before else None) == shown.get(event.key)
                if event.now is None:
                    shown.pop(event.key, None)
                else:
                    shown[event.key] = event.now.value
            assert shown == values(machine, Range("a", "z"))


@given(commands)
def test_commands_survive_the_wire(command: object) -> None:
    assert unpack(json.loads(json.dumps(pack(command)))) == command  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        [],
        ["drop table"],
        ["put", "k"],
        ["put", 1, "v", 0],
        ["put", "", "v", 0],
        ["put", "k", "v", -1],
        ["txn", [], []],
        ["txn", [["k", "colour", "=", 1]], [], []],
        ["txn", [], [["grant", 1, 1]], []],
        ["range", "k", None, True, 0],
        [["put"], "k", "v", 0],
    ],
)
def test_nonsense_is_refused(nonsense: object) -> None:
    with pytest.raises(InvalidParameter):
        unpack(nonsense)
