"""Commands that are sent twice take effect once (dissertation 6.3); watches miss nothing."""

from __future__ import annotations

import pytest

from labkit.base.errors import Conflict, InvalidParameter, LabkitError
from labkit.cluster.store import (
    Compact,
    Compacted,
    Machine,
    NoSuchLease,
    Once,
    Put,
    Range,
    Result,
    SessionExpired,
    Txn,
    Watches,
)
from labkit.cluster.store.commands import pack, unpack
from labkit.cluster.store.sessions import Sessions


def version(machine: Machine, key: str) -> int:
    return machine.range(Range(key)).values[0].version


def test_the_same_command_twice_happens_once_and_gets_the_same_answer() -> None:
    machine = Machine()
    first = machine.apply(Once("me", 1, Put("k", "a")))
    again = machine.apply(Once("me", 1, Put("k", "a")))
    assert first == again
    assert version(machine, "k") == 1
    machine.apply(Once("me", 2, Put("k", "b")))
    assert version(machine, "k") == 2


def test_an_error_is_remembered_as_well() -> None:
    machine = Machine()
    first = machine.apply(Once("me", 1, Put("k", "a", lease=7)))
    again = machine.apply(Once("me", 1, Put("k", "a", lease=7)))
    assert isinstance(first, NoSuchLease)
    assert first is again


def test_sessions_survive_a_snapshot_with_their_answers() -> None:
    machine = Machine()
    swap = Txn((), (Put("k", "a"), Range("k")))
    answer = machine.apply(Once("one", 1, swap))
    machine.apply(Once("two", 1, Put("k", "a", lease=7)))
    copy = Machine.restore(machine.snapshot())
    assert copy.snapshot() == machine.snapshot()
    assert copy.apply(Once("one", 1, swap)) == answer
    assert isinstance(copy.apply(Once("two", 1, Put("k", "a", lease=7))), NoSuchLease)
    assert version(copy, "k") == 1


def test_a_late_duplicate_and_a_forgotten_client_are_refused_by_name() -> None:
    machine = Machine()
    for number in (1, 2, 3):
        machine.apply(Once("me", number, Put("k", str(number))))
    late = machine.apply(Once("me", 1, Put("k", "1")))
    assert isinstance(late, Conflict)
    assert "answered long ago" in late.message
    stranger = machine.apply(Once("you", 5, Put("k", "x")))
    assert isinstance(stranger, SessionExpired)
    assert version(machine, "k") == 3


def test_the_client_that_was_silent_longest_is_forgotten_first() -> None:
    sessions = Sessions(most=2)
    done = Result(1)
    for client in ("a", "b", "a", "c"):
        number = 2 if client == "a" and len(sessions) == 2 else 1
        sessions.keep(Once(client, number, Put("k", "v")), done)
    assert sessions.known(Once("a", 2, Put("k", "v"))) == done
    assert isinstance(sessions.known(Once("b", 2, Put("k", "v"))), SessionExpired)


@pytest.mark.parametrize(
    "packed",
    [
        ["once", "", 1, ["put", "k", "v", 0]],
        ["once", "me", 0, ["put", "k", "v", 0]],
        ["once", "me", 1, ["once", "me", 1, ["put", "k", "v", 0]]],
        ["once", "me", 1],
        ["once", "me", 1, 7],
        ["txn", [], [["txn", [], [], []]], []],
    ],
)
def test_nonsense_is_refused(packed: object) -> None:
    with pytest.raises(InvalidParameter):
        unpack(packed)


def test_a_transaction_nested_a_hundred_thousand_times_is_refused_not_followed() -> None:
    packed: list[object] = ["put", "k", "v", 0]
    for _ in range(100_000):
        packed = ["txn", [], [packed], []]
    with pytest.raises(InvalidParameter, match="made of Put"):
        unpack(packed)


def test_a_command_comes_back_from_the_wire_as_it_went() -> None:
    command = Once("me", 3, Txn((), (Put("k", "v"),)))
    assert unpack(pack(command)) == command


def test_a_watch_hears_the_past_once_and_then_every_change_in_order() -> None:
    machine, watches = Machine(), Watches()
    machine.apply(Put("a/1", "x"))
    machine.apply(Put("b", "other"))
    watches.add("w", "a/", "a0")
    assert [event.key for notice in watches.due(machine) for event in notice.events] == ["a/1"]
    assert watches.due(machine) == []
    for number in range(5):
        machine.apply(Put(f"a/{number}", str(number)))
    (notice,) = watches.due(machine)
    assert [event.revision for event in notice.events] == [3, 4, 5, 6, 7]
    machine.apply(Put("b", "again"))
    assert watches.due(machine) == []


def test_a_watch_on_a_forgotten_past_ends_with_the_reason() -> None:
    machine, watches = Machine(), Watches()
    for number in range(5):
        machine.apply(Put("k", str(number)))
    machine.apply(Compact(4))
    watches.add("w", "k", after=1)
    (notice,) = watches.due(machine)
    assert isinstance(notice.error, Compacted)
    assert len(watches) == 0


def test_a_name_watches_once() -> None:
    watches = Watches()
    watches.add("w", "k")
    with pytest.raises(LabkitError, match="already"):
        watches.add("w", "k")
    watches.drop("w")
    watches.add("w", "k")
