"""The checker accepts what has an order, refuses what has none, and agrees with brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.cluster.linearizability import Operation, Register, check, check_keys


def write(value: int, called: int, returned: int | None, key: str = "k") -> Operation:
    return Operation(called, key, "write", value, called, returned)


def read(value: int | None, called: int, returned: int | None, key: str = "k") -> Operation:
    return Operation(called, key, "read", value, called, returned)


ACCEPTED = {
    "nothing at all": [],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read during a write sees the old": [write(1, 0, 9), read(None, 1, 2)],
    "a read during a write sees the new": [write(1, 0, 9), read(1, 1, 2), read(1, 3, 4)],
    "two writes at once, in either order": [write(1, 0, 9), write(2, 1, 8), read(1, 10, 11)],
    "a write without an answer happened": [write(1, 0, None), read(1, 5, 6)],
    "a write without an answer never happened": [write(1, 0, None), read(None, 5, 6)],
    "a write without an answer happens late": [
        write(1, 0, None),
        write(2, 1, 2),
        read(2, 3, 4),
        read(1, 5, 6),
    ],
    "a read without an answer says nothing": [write(1, 0, 1), read(7, 2, None)],
    "touching ends may be in either order": [write(1, 0, 5), read(None, 5, 6)],
}
REFUSED = {
    "a stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "a lost write": [write(1, 0, 1), read(None, 2, 3)],
    "a value nobody wrote": [write(1, 0, 1), read(3, 2, 3)],
    "a read from the future": [read(1, 0, 1), write(1, 2, 3)],
    "new, then old again": [write(1, 0, 9), read(1, 1, 2), read(None, 3, 4)],
    "two readers who disagree about the order": [
        write(1, 0, 9),
        write(2, 0, 9),
        read(1, 1, 2),
        read(2, 3, 4),
        read(1, 5, 6),
    ],
    "an unanswered write that happens twice": [
        write(1, 0, None),
        read(1, 1, 2),
        write(2, 3, 4),
        read(1, 5, 6),
    ],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name: str) -> None:
    assert check(ACCEPTED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    assert not check(REFUSED[name])


def test_keys_are_judged_apart_and_the_wrong_one_is_named() -> None:
    fine = [write(1, 0, 1, "a"), read(1, 2, 3, "a")]
    wrong = [write(1, 0, 1, "b"), read(None, 2, 3, "b")]
    assert check_keys(fine) is None
    assert check_keys(fine + wrong) == "b"


def brute_force(history: list[Operation]) -> bool:
    """Try every order that respects time, and every choice of unanswered writes."""
    answered = [op for op in history if op.returned is not None]
    open_writes = [op for op in history if op.returned is None and op.kind == "write"]
    for count in range(len(open_writes) + 1):
        for chosen in itertools.combinations(open_writes, count):
            for order in itertools.permutations([*answered, *chosen]):
                if _respects_time(order) and _explains(order):
                    return True
    return False


def _respects_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.called
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def _explains(order: tuple[Operation, ...]) -> bool:
    state = Register.initial
    for operation in order:
        fits, state = Register.step(state, operation)
        if not fits:
            return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    made = []
    for number in range(draw(st.integers(1, 5))):
        called = draw(st.integers(0, 8))
        length = draw(st.integers(0, 6))
        returned = None if draw(st.integers(0, 5)) == 0 else called + length
        if draw(st.booleans()):
            made.append(write(number, called, returned))
        else:
            made.append(read(draw(st.sampled_from([None, 0, 1, 2, 3])), called, returned))
    return made


@settings(max_examples=300, deadline=None)
@given(histories())
def test_agrees_with_trying_everything(history: list[Operation]) -> None:
    assert check(history) == brute_force(history)
