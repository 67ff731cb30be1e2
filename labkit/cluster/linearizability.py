"""Is there an order in which these overlapping operations could have happened one at a time?

The search of Wing and Gong (JPDC 1993) with Lowe's memory of configurations already tried
("Testing for linearizability", 2017), over one key at a time: a map is linearizable when each of
its keys is (Herlihy and Wing 1990, section 3.3, locality).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

__all__ = ["Operation", "Register", "check", "check_keys"]


class Operation(NamedTuple):
    """One client's operation. `returned` is None when the client never learnt the outcome.

    For a register: kind "write" with the value written, "read" with the value seen, or "swap" with
    (the value expected, the value to write, whether it happened or None).
    """

    client: int
    key: str
    kind: str
    value: Any
    called: int
    returned: int | None


class Register:
    """The model: a value that is written whole and read whole, None at first."""

    initial: Hashable = None

    @staticmethod
    def step(state: Any, operation: Operation) -> tuple[bool, Any]:
        """Whether the operation could happen in `state`, and the state after it."""
        if operation.kind == "write":
            return True, operation.value
        if operation.kind == "swap":
            expected, value, happened = operation.value
            fits = state == expected
            return happened is None or happened == fits, value if fits else state
        return operation.value == state, state


def check_keys(history: Iterable[Operation]) -> str | None:
    """Check every key of a history of registers; the first key that fails, or None."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for key in sorted(by_key):
        if not check(by_key[key]):
            return key
    return None


class _Event:
    """A call or a return in the doubly linked list of what is not placed yet."""

    __slots__ = ("match", "next", "number", "previous")

    def __init__(self, number: int) -> None:
        self.number = number
        self.match: _Event | None = None
        self.previous: _Event | None = None
        self.next: _Event | None = None


def check(
    history: list[Operation],
    initial: Hashable = Register.initial,
    step: Callable[[Any, Operation], tuple[bool, Any]] = Register.step,
) -> bool:
    """Whether a history over one object is linearizable.

    A read without an answer says nothing and is left out. Anything else without an answer may take
    effect at any time after its call, or never, which is the same as at the very end.
    """
    operations = [op for op in history if op.returned is not None or op.kind != "read"]
    head = _linked(operations)
    state: Any = initial
    linearized = 0
    tried: set[tuple[int, Hashable]] = set()
    placed: list[tuple[_Event, Any]] = []
    event = head.next
    while head.next is not None:
        assert event is not None
        if event.match is not None:  # a call: try to let it happen now
            fits, after = step(state, operations[event.number])
            configuration = (linearized | 1 << event.number, after)
            if fits and configuration not in tried:
                tried.add(configuration)
                placed.append((event, state))
                state, linearized = after, configuration[0]
                _lift(event)
                event = head.next
            else:
                event = event.next
            continue
        # A return whose call is not placed: something before it was placed wrongly.
        if not placed:
            return False
        event, state = placed.pop()
        linearized &= ~(1 << event.number)
        _unlift(event)
        event = event.next
    return True


def _linked(operations: list[Operation]) -> _Event:
    """The events in order of time; at the same instant calls come before returns."""
    moments: list[tuple[float, int, int]] = []
    for number, operation in enumerate(operations):
        returned = float("inf") if operation.returned is None else operation.returned
        moments += [(operation.called, 0, number), (returned, 1, number)]
    head = last = _Event(-1)
    calls: dict[int, _Event] = {}
    for _, is_return, number in sorted(moments):
        event = _Event(number)
        if is_return:
            calls[number].match = event
        else:
            calls[number] = event
        last.next, event.previous = event, last
        last = event
    return head


def _lift(call: _Event) -> None:
    """Take a call and its return out of the list."""
    for event in (call, call.match):
        assert event is not None
        assert event.previous is not None
        event.previous.next = event.next
        if event.next is not None:
            event.next.previous = event.previous


def _unlift(call: _Event) -> None:
    """Put them back, in the opposite order."""
    for event in (call.match, call):
        assert event is not None
        assert event.previous is not None
        event.previous.next = event
        if event.next is not None:
            event.next.previous = event
