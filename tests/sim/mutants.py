"""Small mistakes planted into Raft, one at a time. Each must be found by the simulator.

They are the mistakes that people make: each is one line away from the correct code, and most of
them survive every test that does not crash, cut or reorder something. The profile beside each says
where the simulator is made to look (labkit/cluster/raft/simulation/explore.py): the rare ones would
show in ordinary weather as well, only after thousands of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from labkit.cluster.raft import election, journal, membership, node, quorum, reads, replication
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.log import Log
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.simulation import server
from labkit.cluster.raft.types import Append, Config, HardState, Role, Vote, VoteReply

Plant = Callable[[pytest.MonkeyPatch], None]


class Mutant(NamedTuple):
    """A mistake, and where to look for it."""

    plant: Plant
    profile: str


MUTANTS: dict[str, Mutant] = {}


def mutant(profile: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = Mutant(plant, profile)
        return plant

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one mistake for the length of a with block."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name].plant(patch)
        yield


@mutant("power")
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


@mutant("figure 3.7")
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


@mutant("power")
def ignores_whose_log_is_up_to_date(patch: pytest.MonkeyPatch) -> None:
    """Section 3.6.1."""
    patch.setattr(Log, "is_up_to_date", lambda self, index, term: True)


@mutant("power")
def forgets_to_persist_the_vote(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: votedFor is persistent state."""

    def write(disk: Any, effects: Effects) -> None:
        if effects.hard_state is not None:
            effects.hard_state = HardState(effects.hard_state.term, 0)
        original(disk, effects)

    original = journal.write
    patch.setattr(journal, "write", write)


@mutant("power")
def forgets_to_persist_the_entries(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: respond only after the log is on stable storage."""

    def synced(self: server.Server, effects: Effects, generation: int) -> None:
        if generation == self._generation:
            self._flushing = False
            self._finish(effects)
            self.pump()

    patch.setattr(server.Server, "_synced", synced)


@mutant("everything")
def applies_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: apply up to commitIndex, not up to the end of the log."""
    original = Node.take

    def take(self: Node) -> Effects:
        if self.role is Role.LEADER:
            self.commit = self.log.last_index
        return original(self)

    patch.setattr(Node, "take", take)


@mutant("leases")
def serves_stale_reads(patch: pytest.MonkeyPatch) -> None:
    """Section 6.4: a leader must make sure that it still is one."""

    def begin(self: Node, origin: int, context: Any) -> None:
        reads._answer(self, origin, context, self.commit)

    patch.setattr(reads, "_begin", begin)


@mutant("membership")
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


@mutant("disorder")
def truncates_what_it_already_holds(patch: pytest.MonkeyPatch) -> None:
    """Section 3.5: delete only on a conflict; messages arrive out of order."""

    def take_entries(self: Node, entries: Any) -> None:
        if entries[0].index > self.commit:
            self.adopt_entries(entries)

    patch.setattr(replication, "_take_entries", take_entries)


@mutant("disorder")
def skips_the_consistency_check(patch: pytest.MonkeyPatch) -> None:
    """Section 3.5: refuse entries whose predecessor does not match."""
    original = replication.on_append

    def on_append(self: Node, message: Append) -> None:
        found = self.log.term_at(message.prev_index)
        if found is not None and message.prev_index >= self.commit:
            message = message._replace(prev_term=found)
        original(self, message)

    patch.setitem(node._HANDLERS, Append, on_append)


@mutant("membership")
def counts_a_learner(patch: pytest.MonkeyPatch) -> None:
    """Section 4.2.1: a learner's copy does not count towards a majority."""

    def agreed_index(config: Config, match: Any) -> int:
        everybody = Config(config.voters | config.learners, config.outgoing)
        return quorum.agreed_index(everybody if config.learners else config, match)

    patch.setattr(replication, "agreed_index", agreed_index)


@mutant("power")
def sends_before_the_disk_has_it(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.1: state is on stable storage before a message that relies on it leaves."""
    original = server.Server.pump

    def pump(self: server.Server) -> None:
        early, self.node.effects.messages = self.node.effects.messages, []
        original(self)
        for target, message in early:
            self.cluster.network.send(self.id, target, message)

    patch.setattr(server.Server, "pump", pump)


@mutant("leases")
def reads_before_an_entry_of_its_own_term(patch: pytest.MonkeyPatch) -> None:
    """Section 6.4, step 1: a new leader may not know yet what is committed."""

    def begin(self: Node, origin: int, context: Any) -> None:
        self.reads_waiting.append(reads.Waiting(origin, context, self.commit, self.round + 1))
        replication.heartbeat(self)

    patch.setattr(reads, "_begin", begin)


@mutant("leases")
def holds_a_lease_for_too_long(patch: pytest.MonkeyPatch) -> None:
    """Section 6.4.1: a lease must end before anybody else can be elected, clocks included."""
    original = reads._has_lease

    def has_lease(self: Node) -> bool:
        ticks, self.ticks = self.ticks, max(0, self.ticks - self.options.election_ticks)
        try:
            return original(self)
        finally:
            self.ticks = ticks

    patch.setattr(reads, "_has_lease", has_lease)


@mutant("leases")
def keeps_its_lease_when_it_hands_over(patch: pytest.MonkeyPatch) -> None:
    """Section 6.4.1: leadership transfer breaks the promise that a lease rests on."""
    original = election.hand_over

    def hand_over(self: Node) -> None:
        original(self)
        self.transfers = 0

    patch.setattr(election, "hand_over", hand_over)


@mutant("promises")
def forgets_its_promise_in_a_restart(patch: pytest.MonkeyPatch) -> None:
    """Section 6.4.1: whoever comes up again may have granted a lease a moment ago."""
    original = Node.__init__

    def init(self: Node, *arguments: Any, **words: Any) -> None:
        original(self, *arguments, **words)
        self.quiet_until = 0

    patch.setattr(Node, "__init__", init)


@mutant("membership")
def lets_nobody_stand_who_is_on_the_way_out(patch: pytest.MonkeyPatch) -> None:
    """Section 4.2.2, figure 4.6: it may be the only one with a log that a majority can follow."""
    patch.setattr(membership, "may_stand", lambda self: self.config.can_vote(self.id))
