"""What the store remembers of its clients, so that a command sent twice takes effect once.

A client that got no answer cannot know whether its command happened, and sends it again (6.3 of the
dissertation). The machine keeps each client's last number and answer; as part of the replicated
state it is the same on every member, also after a snapshot.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from labkit.base.errors import Conflict, InvalidParameter, LabkitError
from labkit.cluster.store.commands import Once
from labkit.cluster.store.errors import Compacted, FutureRevision, NoSuchLease, SessionExpired
from labkit.cluster.store.results import KeyValue, Result

__all__ = ["SESSIONS_MAX", "Answer", "Sessions"]

SESSIONS_MAX = 1000
"""Clients remembered; beyond that the one that was silent longest is forgotten."""

Answer = Result | LabkitError

_ERRORS: dict[str, type[LabkitError]] = {
    kind.__name__: kind
    for kind in (Compacted, Conflict, FutureRevision, InvalidParameter, NoSuchLease)
}


class _Last(NamedTuple):
    number: int
    answer: Answer


class Sessions:
    """The last command of every client, the longest silent first."""

    __slots__ = ("_last", "_most")

    def __init__(self, most: int = SESSIONS_MAX) -> None:
        self._last: dict[str, _Last] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._last)

    def known(self, once: Once) -> Answer | None:
        """The answer to a command that came before, or why there is none; None for a new one."""
        last = self._last.get(once.client)
        following = last.number + 1 if last is not None else 1
        if once.number == following:
            return None
        if last is not None and once.number == last.number:
            return last.answer
        if once.number < following:
            return Conflict(f"command {once.number} of {once.client!r} was answered long ago")
        return SessionExpired(
            f"command {once.number} of {once.client!r} comes where {following} belongs: the client "
            "was forgotten, or did not wait for an answer",
            hint="read what happened, then begin under another name",
        )

    def keep(self, once: Once, answer: Answer) -> None:
        """Remember an answer; its client is now the last to be forgotten."""
        self._last.pop(once.client, None)
        self._last[once.client] = _Last(once.number, answer)
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]

    # -- snapshots --------------------------------------------------

    def pack(self) -> list[Any]:
        """Everything as plain values."""
        return [[client, last.number, _pack(last.answer)] for client, last in self._last.items()]

    def unpack(self, packed: list[Any]) -> None:
        """Become what was packed."""
        self._last = {client: _Last(number, _unpack(answer)) for client, number, answer in packed}


def _pack(answer: Answer) -> list[Any]:
    if isinstance(answer, LabkitError):
        return ["error", type(answer).__name__, answer.message, answer.hint]
    return [
        "result",
        answer.revision,
        answer.succeeded,
        [list(kv) for kv in answer.values],
        answer.more,
        [_pack(part) for part in answer.parts],
    ]


def _unpack(packed: list[Any]) -> Answer:
    if packed[0] == "error":
        _, name, message, hint = packed
        return _ERRORS.get(name, InvalidParameter)(message, hint=hint)
    return _unpack_result(packed)


def _unpack_result(packed: list[Any]) -> Result:
    _, revision, succeeded, values, more, parts = packed
    return Result(
        revision,
        succeeded,
        tuple(KeyValue(*value) for value in values),
        more,
        tuple(_unpack_result(part) for part in parts),
    )
