"""The judge: sees every server at every event, and says which promise of Raft was broken.

The promises are those of dissertation figure 3.2. Each is checked incrementally, so that judging an
event costs about as much as the event changed:

- election safety: at most one leader a term
- leader append-only: a leader never overwrites or deletes its own entries
- log matching: the same index and term mean the same entry and the same history
- leader completeness: a new leader holds everything that was committed before
- state machine safety: no two servers apply different entries at one index
- one change at a time: no log holds two uncommitted configurations of different changes
- reads: a confirmed read index covers everything acknowledged before the read began
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.cluster.raft import journal
from labkit.cluster.raft.types import Entry, EntryKind, NodeId, Role, Snapshot

if TYPE_CHECKING:
    from labkit.cluster.raft.simulation.server import Server

__all__ = ["Judge", "Verdict", "Violation"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which promise was broken, when, and the facts."""

    promise: str
    time_ns: int
    facts: str

    def __str__(self) -> str:
        return f"{self.promise} broken at {self.time_ns / 1e9:.6f} s: {self.facts}"


class Violation(AssertionError):
    """Raised at the very event that broke a promise."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


class _Seen:
    """What the judge remembers of one server since its last event."""

    __slots__ = ("base", "leads", "role", "term", "terms")

    def __init__(self) -> None:
        self.term = 0
        self.role = Role.FOLLOWER
        self.leads = 0
        self.base = 0
        self.terms: list[int] = []
        """Terms of the log's entries from index base + 1 on."""


class Judge:
    """Knows all servers; `now` is asked for the time of a verdict."""

    __slots__ = (
        "_committed",
        "_entries",
        "_last_committed",
        "_leaders",
        "_seen",
        "_server_now",
        "acknowledged",
    )

    def __init__(self, now: Any) -> None:
        self._server_now = now
        self._leaders: dict[int, NodeId] = {}
        self._entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        """(index, term) → (term of the entry before, the entry)."""
        self._committed: dict[int, Entry] = {}
        """The first application at each index, by whomever."""
        self._last_committed = 0
        self._seen: dict[NodeId, _Seen] = {}
        self.acknowledged = 0
        """The highest index whose effect a client was told about."""

    def _break(self, promise: str, facts: str) -> None:
        raise Violation(Verdict(promise, self._server_now(), facts))

    def booted(self, server: Server) -> None:
        """A server came up; its log may be shorter than what it had, never different."""
        self._seen[server.id] = _Seen()
        self.observe(server)

    def crashed(self, server: Server) -> None:
        """A leader went down: what it appended and never stored has never been.

        Only a sole voter can lead before its term is on disk. After a crash it, or in another
        configuration somebody else, may lead that term: nobody has heard of it in the first one.
        """
        node = server.node
        if node.role is not Role.LEADER:
            return
        found = journal.recover(server.disk)
        if found.hard_state is None or found.hard_state.term < node.term:
            self._leaders.pop(node.term, None)
        kept = {(entry.index, entry.term) for entry in found.entries}
        index = node.log.last_index
        while node.log.term_at(index) == node.term and index > node.log.snapshot_index:
            if (index, node.term) in kept:
                break
            self._entries.pop((index, node.term), None)
            index -= 1

    def observe(self, server: Server) -> None:
        """Compare a server with what it was at its last event."""
        node = server.node
        seen = self._seen.get(server.id)
        if seen is None:
            seen = self._seen[server.id] = _Seen()
        if node.role is Role.LEADER and (seen.role is not Role.LEADER or seen.term != node.term):
            self._elected(server)
        log = node.log
        if log.snapshot_index != seen.base:
            self._rebase(seen, server)
        length = log.last_index - seen.base
        terms = seen.terms
        if length != len(terms) or (length and log.last_term != terms[-1]):
            self._log_changed(server, seen)
        seen.role, seen.term = node.role, node.term

    def _elected(self, server: Server) -> None:
        node = server.node
        other = self._leaders.setdefault(node.term, node.id)
        if other != node.id:
            self._break("election safety", f"nodes {other} and {node.id} lead term {node.term}")
        if self._committed:
            last = self._last_committed
            held = node.log.term_at(last)
            if held != self._committed[last].term and last > node.log.snapshot_index:
                self._break(
                    "leader completeness",
                    f"node {node.id} leads term {node.term} without committed entry {last} "
                    f"of term {self._committed[last].term}",
                )

    def _rebase(self, seen: _Seen, server: Server) -> None:
        log = server.node.log
        if log.snapshot_index > seen.base:
            del seen.terms[: log.snapshot_index - seen.base]
            seen.base = log.snapshot_index
        else:
            seen.base, seen.terms = log.snapshot_index, []

    def _log_changed(self, server: Server, seen: _Seen) -> None:
        """Walk back from the end to where the log is as it was."""
        node, log, terms = server.node, server.node.log, seen.terms
        fresh: list[Entry] = []
        index = log.last_index
        while index > seen.base:
            entry = log.entry(index)
            position = index - seen.base - 1
            if position < len(terms) and terms[position] == entry.term:
                break
            fresh.append(entry)
            index -= 1
        kept = index - seen.base
        if kept < len(terms) and seen.role is Role.LEADER and seen.term == node.term:
            self._break("leader append-only", f"leader {node.id} overwrote its entry {index + 1}")
        del terms[kept:]
        before = log.term_at(index)
        assert before is not None
        for entry in reversed(fresh):
            terms.append(entry.term)
            known = self._entries.setdefault((entry.index, entry.term), (before, entry))
            if known != (before, entry):
                self._break(
                    "log matching",
                    f"entry {entry.index} of term {entry.term} is {entry.data!r} after term "
                    f"{before} on node {node.id}, elsewhere {known[1].data!r} after {known[0]}",
                )
            before = entry.term
        self._one_change(server)

    def _one_change(self, server: Server) -> None:
        node = server.node
        # A server that has just come up does not know yet what is committed; the judge does.
        known = max(node.commit, self._last_committed)
        changes = [config for index, config in node.config_history if index > known]
        if sum(config.is_joint for config in changes) > 1:
            self._break("one change at a time", f"node {node.id} holds {changes!r}")

    def applied(self, server: Server, entry: Entry) -> None:
        """A server applies an entry."""
        if entry.index != server.applied + 1:
            self._break(
                "state machine safety",
                f"node {server.id} applies {entry.index} after {server.applied}",
            )
        first = self._committed.setdefault(entry.index, entry)
        self._last_committed = max(self._last_committed, entry.index)
        if first != entry:
            self._break(
                "state machine safety",
                f"node {server.id} applies {entry!r}, another applied {first!r}",
            )

    def restored(self, server: Server, snapshot: Snapshot) -> None:
        """A server's state was replaced by a snapshot: it must be of a committed index."""
        entry = self._committed.get(snapshot.index)
        if entry is None or entry.term != snapshot.term:
            self._break(
                "state machine safety",
                f"node {server.id} restored a snapshot of index {snapshot.index}, term "
                f"{snapshot.term}, that was never committed",
            )

    def read_confirmed(self, began_at: int, index: int) -> None:
        """A read that began when index `began_at` was acknowledged got `index`."""
        if index < began_at:
            self._break(
                "reads", f"a read was confirmed at {index}, after {began_at} was acknowledged"
            )

    def commands(self) -> list[Entry]:
        """Everything committed so far, in order."""
        return [
            entry for _, entry in sorted(self._committed.items()) if entry.kind is EntryKind.COMMAND
        ]
