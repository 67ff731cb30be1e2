"""Small mistakes planted into Raft, one at a time. Each must be found by the simulator.

They are the mistakes that people make: each is one line away from the correct code, and most of
them survive every test that does not crash, cut or reorder something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labkit.cluster.raft import election, membership, node, quorum, reads, replication
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.log import Log
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.simulation import journal, server
from labkit.cluster.raft.types import Append, Config, HardState, Role, Vote, VoteReply

MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def mutant(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[..., None]:
    MUTANTS[function.__name__] = function
    return function


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one mistake for the length of a with block."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        yield


@mutant
def votes_twice_in_a_term(patch: pytest.MonkeyPatch) -> None:
    """Section 3.4: each server votes for at most one candidate a term."""

    def on_vote(self: Node, message: Vote) -> None:
        granted = self.log.is_up_to_date(message.last_index, message.last_term)
        if granted and not message.pre:
            self.vote = message.sender
            self.elapsed = 0
        term = message.term if granted else self.term
        self.send(message.sender, VoteReply(term, self.id, granted, message.pre))

    patch.setitem(node._HANDLERS, Vote, on_vote)


@mutant
def commits_an_older_term_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Section 3.6.2, figure 3.7."""

    def maybe_commit(self: Node) -> bool:
        if self.role is not Role.LEADER:
            return False
        match = {peer: progress.match for peer, progress in self.peers.items()}
        match[self.id] = self.log.last_index
        index = quorum.agreed_index(self.config, match)
        if index <= self.commit:
            return False
        self.commit = index
        reads.committed(self)
        membership.committed(self)
        return True

    patch.setattr(replication, "maybe_commit", maybe_commit)


@mutant
def ignores_whose_log_is_up_to_date(patch: pytest.MonkeyPatch) -> None:
    """Section 3.6.1."""
    patch.setattr(Log, "is_up_to_date", lambda self, index, term: True)


@mutant
def forgets_to_persist_the_vote(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: votedFor is persistent state."""

    def write(disk: Any, effects: Effects) -> None:
        if effects.hard_state is not None:
            effects.hard_state = HardState(effects.hard_state.term, 0)
        original(disk, effects)

    original = journal.write
    patch.setattr(journal, "write", write)


@mutant
def forgets_to_persist_the_entries(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: respond only after the log is on stable storage."""

    def synced(self: server.Server, effects: Effects, generation: int) -> None:
        if generation == self._generation:
            self._flushing = False
            self._finish(effects)
            self.pump()

    patch.setattr(server.Server, "_synced", synced)


@mutant
def applies_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: apply up to commitIndex, not up to the end of the log."""
    original = Node.take

    def take(self: Node) -> Effects:
        if self.role is Role.LEADER:
            self.commit = self.log.last_index
        return original(self)

    patch.setattr(Node, "take", take)


@mutant
def serves_stale_reads(patch: pytest.MonkeyPatch) -> None:
    """Section 6.4: a leader must make sure that it still is one."""

    def begin(self: Node, origin: int, context: Any) -> None:
        reads._answer(self, origin, context, self.commit)

    patch.setattr(reads, "_begin", begin)


@mutant
def changes_members_without_overlap(patch: pytest.MonkeyPatch) -> None:
    """Section 4.3: in between, both majorities are needed."""

    def without_old(config: Config) -> Config:
        return config._replace(outgoing=frozenset())

    for name in ("has_quorum", "is_lost", "agreed_index"):
        original = getattr(quorum, name)

        def patched(config: Config, other: Any, original: Any = original) -> Any:
            return original(without_old(config), other)

        for module in (election, replication, reads):
            if hasattr(module, name):
                patch.setattr(module, name, patched)


@mutant
def truncates_what_it_already_holds(patch: pytest.MonkeyPatch) -> None:
    """Section 3.5: delete only on a conflict; messages arrive out of order."""

    def take_entries(self: Node, entries: Any) -> None:
        if entries[0].index > self.commit:
            self.adopt_entries(entries)

    patch.setattr(replication, "_take_entries", take_entries)


@mutant
def skips_the_consistency_check(patch: pytest.MonkeyPatch) -> None:
    """Section 3.5: refuse entries whose predecessor does not match."""
    original = replication.on_append

    def on_append(self: Node, message: Append) -> None:
        found = self.log.term_at(message.prev_index)
        if found is not None and message.prev_index >= self.commit:
            message = message._replace(prev_term=found)
        original(self, message)

    patch.setitem(node._HANDLERS, Append, on_append)
