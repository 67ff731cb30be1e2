"""The state machine behind the store: the same commands in the same order make the same state.

Every key keeps its versions until they are compacted away, so that one can read the past and watch
from any revision that is not forgotten. A revision is one command that changed something.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from labkit.base.errors import Conflict, InvalidParameter, LabkitError
from labkit.cluster.store.commands import (
    Command,
    Compact,
    Compare,
    Delete,
    Grant,
    Once,
    Put,
    Range,
    Revoke,
    Txn,
)
from labkit.cluster.store.errors import Compacted, FutureRevision, NoSuchLease
from labkit.cluster.store.results import Event, KeyValue, Result
from labkit.cluster.store.sessions import Sessions

__all__ = ["Event", "KeyValue", "Machine", "Result"]


class _Version(NamedTuple):
    """One version of a key; `value` None is a deletion. `place` orders a revision's changes."""

    revision: int
    place: int
    create: int
    version: int
    value: str | None
    lease: int


class Machine:
    """Keys, leases, and the revision they are at."""

    def __init__(self) -> None:
        self.revision = 0
        self.compacted = 0
        """The past before this revision is forgotten."""
        self.leases: dict[int, int] = {}
        """Lease → its length in ticks. Time itself is the leader's business (replica.py)."""
        self._keys: list[str] = []
        self._versions: dict[str, list[_Version]] = {}
        self._changes: list[tuple[int, int, str]] = []
        """(revision, place, key) of every version that is kept."""
        self._leased: dict[int, set[str]] = {}
        self._place = 0
        self.sessions = Sessions()

    # -- commands --------------------------------------------------

    def apply(self, command: Command) -> Result | LabkitError:
        """Carry out a command. An error is the answer of a command that changed nothing."""
        if isinstance(command, Once):
            return self._once(command)
        self._place = 0
        try:
            result = _HANDLERS[type(command)](self, command)
        except LabkitError as error:
            assert not self._place, "a refused command must not change anything"
            return error
        if self._place:
            self.revision += 1
        return result._replace(revision=self.revision)

    def _once(self, once: Once) -> Result | LabkitError:
        answer = self.sessions.known(once)
        if answer is None:
            answer = self.apply(once.command)
            self.sessions.keep(once, answer)
        return answer

    def _put(self, put: Put) -> Result:
        if put.lease and put.lease not in self.leases:
            raise NoSuchLease(f"cannot put {put.key!r}: there is no lease {put.lease}")
        known = self._latest(put.key)
        if known is not None and known.lease:
            self._leased[known.lease].discard(put.key)
        if put.lease:
            self._leased.setdefault(put.lease, set()).add(put.key)
        create = known.create if known is not None else self.revision + 1
        version = known.version + 1 if known is not None else 1
        self._write(put.key, create, version, put.value, put.lease)
        return Result(self.revision)

    def _delete(self, delete: Delete) -> Result:
        gone = list(self._live(delete.key, delete.end, self.revision + 1))
        for kv in gone:
            if kv.lease:
                self._leased[kv.lease].discard(kv.key)
            self._write(kv.key, 0, 0, None, 0)
        return Result(self.revision, values=tuple(gone))

    def range(self, wanted: Range) -> Result:
        """Read. Raises Compacted or FutureRevision."""
        at = wanted.revision or self.revision + 1  # within a Txn its own writes are seen
        if wanted.revision > self.revision:
            raise FutureRevision(f"revision {wanted.revision} is to come; now is {self.revision}")
        if wanted.revision and wanted.revision < self.compacted:
            raise Compacted(
                f"revision {wanted.revision} is compacted; the oldest is {self.compacted}"
            )
        found: list[KeyValue] = []
        for kv in self._live(wanted.key, wanted.end, at):
            if wanted.limit and len(found) == wanted.limit:
                return Result(self.revision, values=tuple(found), more=True)
            found.append(kv)
        return Result(self.revision, values=tuple(found))

    def _txn(self, txn: Txn) -> Result:
        holds = all(self._holds(compare) for compare in txn.compares)
        steps = txn.success if holds else txn.failure
        for step in steps:  # refuse before the first change: a Txn happens whole or not at all
            if isinstance(step, Put) and step.lease and step.lease not in self.leases:
                raise NoSuchLease(f"cannot put {step.key!r}: there is no lease {step.lease}")
            if isinstance(step, Range):
                self.range(step)
        written = [step.key for step in steps if isinstance(step, Put)]
        if len(set(written)) < len(written):
            raise InvalidParameter("a Txn may write each key once")
        parts = tuple(_HANDLERS[type(step)](self, step) for step in steps)
        return Result(self.revision, succeeded=holds, parts=parts)

    def _holds(self, compare: Compare) -> bool:
        known = self._latest(compare.key)
        values: dict[str, Any] = {
            "version": known.version if known else 0,
            "create": known.create if known else 0,
            "mod": known.revision if known else 0,
            "value": (known.value if known else None) or "",
            "lease": known.lease if known else 0,
        }
        value, operand = values[compare.field], compare.operand
        if type(value) is not type(operand):
            raise InvalidParameter(
                f"cannot compare {compare.field} of {compare.key!r} with {operand!r}"
            )
        return bool(_OPERATORS[compare.operator](value, operand))

    def _grant(self, grant: Grant) -> Result:
        if not grant.lease or grant.lease in self.leases:
            raise Conflict(f"lease {grant.lease} exists already, or is no number for a lease")
        self.leases[grant.lease] = grant.ttl_ticks
        return Result(self.revision)

    def _revoke(self, revoke: Revoke) -> Result:
        if revoke.lease not in self.leases:
            raise NoSuchLease(f"there is no lease {revoke.lease}")
        del self.leases[revoke.lease]
        for key in sorted(self._leased.pop(revoke.lease, ())):
            self._write(key, 0, 0, None, 0)
        return Result(self.revision)

    def _compact(self, compact: Compact) -> Result:
        if compact.revision > self.revision:
            raise FutureRevision(f"revision {compact.revision} is to come; now is {self.revision}")
        if compact.revision <= self.compacted:
            raise Compacted(f"already compacted to {self.compacted}")
        self.compacted = compact.revision
        for key in list(self._versions):
            versions = self._versions[key]
            keep = bisect_right(versions, compact.revision, key=lambda v: v.revision) - 1
            if keep >= 0 and versions[keep].value is None:
                keep += 1  # a deletion that everybody has seen
            del versions[: max(keep, 0)]
            if not versions:
                del self._versions[key]
                del self._keys[bisect_left(self._keys, key)]
        self._index()
        return Result(self.revision)

    # -- versions --------------------------------------------------

    def _latest(self, key: str) -> _Version | None:
        versions = self._versions.get(key)
        return versions[-1] if versions and versions[-1].value is not None else None

    def _write(self, key: str, create: int, version: int, value: str | None, lease: int) -> None:
        if key not in self._versions:
            self._versions[key] = []
            insort(self._keys, key)
        revision = self.revision + 1
        self._versions[key].append(_Version(revision, self._place, create, version, value, lease))
        self._changes.append((revision, self._place, key))
        self._place += 1

    def _live(self, key: str, end: str | None, at: int) -> Iterator[KeyValue]:
        if end is None:
            keys = [key] if key in self._versions else []
        else:
            keys = self._keys[bisect_left(self._keys, key) : bisect_left(self._keys, end)]
        for name in keys:
            versions = self._versions[name]
            position = bisect_right(versions, at, key=lambda v: v.revision) - 1
            if position >= 0:
                kv = _shown(name, versions[position])
                if kv is not None:
                    yield kv

    def _index(self) -> None:
        self._changes = sorted(
            (version.revision, version.place, key)
            for key, versions in self._versions.items()
            for version in versions
        )

    # -- watching --------------------------------------------------

    def events(self, key: str, end: str | None, after: int) -> list[Event]:
        """What happened to these keys after revision `after`. Raises Compacted.

        Ask again with the `revision` of the machine as the next `after`: that is a watch.
        """
        if after < self.compacted:
            raise Compacted(f"revision {after + 1} is compacted; the oldest is {self.compacted}")
        found = []
        for revision, place, name in self._changes[
            bisect_left(self._changes, (after + 1, 0, "")) :
        ]:
            if name == key if end is None else key <= name < end:
                versions = self._versions[name]
                position = bisect_left(versions, (revision, place), key=lambda v: (v[0], v[1]))
                before = _shown(name, versions[position - 1]) if position else None
                found.append(Event(revision, name, _shown(name, versions[position]), before))
        return found

    # -- snapshots --------------------------------------------------

    def snapshot(self) -> bytes:
        """Everything, in bytes that are the same for the same state."""
        state = {
            "revision": self.revision,
            "compacted": self.compacted,
            "leases": sorted(self.leases.items()),
            "sessions": self.sessions.pack(),
            "keys": [
                [key, [list(version) for version in self._versions[key]]] for key in self._keys
            ],
        }
        return json.dumps(state, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def restore(cls, data: bytes) -> Machine:
        """The machine that made this snapshot; a new one for no bytes at all."""
        machine = cls()
        if not data:
            return machine
        state = json.loads(data)
        machine.revision, machine.compacted = state["revision"], state["compacted"]
        machine.leases = dict(state["leases"])
        machine.sessions.unpack(state["sessions"])
        for key, versions in state["keys"]:
            machine._keys.append(key)
            machine._versions[key] = [_Version(*version) for version in versions]
            latest = machine._latest(key)
            if latest is not None and latest.lease:
                machine._leased.setdefault(latest.lease, set()).add(key)
        machine._index()
        return machine


def _shown(key: str, version: _Version) -> KeyValue | None:
    if version.value is None:
        return None
    return KeyValue(
        key, version.value, version.create, version.revision, version.version, version.lease
    )


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}
_HANDLERS: dict[type, Callable[[Machine, Any], Result]] = {
    Put: Machine._put,
    Delete: Machine._delete,
    Range: Machine.range,
    Txn: Machine._txn,
    Grant: Machine._grant,
    Revoke: Machine._revoke,
    Compact: Machine._compact,
}
