"""Raft servers held in the hand: no simulation, every message given and taken by the test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.cluster.raft import Config, Effects, Entry, EntryKind, HardState, Message, Node, Options
from labkit.cluster.raft.types import AppendReply, Role, TimeoutNow, Vote, VoteReply

__all__ = ["Hand", "command", "entries_of", "pass_on"]


class _NoDice:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def randrange(self, stop: int, /) -> int:
        return self.value % stop


class Hand:
    """One node and what it has sent since it was last asked."""

    def __init__(
        self,
        node_id: int = 1,
        voters: Iterable[int] = (1, 2, 3),
        *,
        learners: Iterable[int] = (),
        log: Iterable[int] = (),
        term: int = 0,
        vote: int = 0,
        dice: int = 0,
        **options: Any,
    ) -> None:
        """`log` lists the terms of the entries that are on disk already."""
        self.node = Node(
            node_id,
            Config(frozenset(voters), frozenset(), frozenset(learners)),
            _NoDice(dice),
            Options(**options),
            hard_state=HardState(term, vote),
            entries=[command(index, held) for index, held in enumerate(log, 1)],
        )

    def take(self) -> Effects:
        return self.node.take()

    def sent(self, kind: type | None = None) -> list[Any]:
        """The messages since the last call, of one kind."""
        messages = [message for _, message in self.take().messages]
        return [m for m in messages if kind is None or isinstance(m, kind)]

    def receive(self, message: Message) -> list[Any]:
        """Hand it a message; what it sends because of it."""
        self.node.receive(message)
        return self.sent()

    def ticks(self, count: int) -> list[Any]:
        for _ in range(count):
            self.node.tick()
        return self.sent()

    def time_out(self) -> list[Any]:
        """Let the election timeout pass."""
        return self.ticks(self.node.election_timeout - self.node.elapsed)

    def lead(self) -> list[Any]:
        """Become leader of the next term with everybody's vote; returns what it then sends."""
        node = self.node
        node.receive(TimeoutNow(max(node.term, 1), 99))
        assert node.role is Role.CANDIDATE or node.role is Role.LEADER
        self.sent()
        for voter in sorted(node.config.voters | node.config.outgoing):
            if node.role is Role.CANDIDATE and voter != node.id:
                node.receive(VoteReply(node.term, voter, True, False))
        assert node.role is Role.LEADER
        return self.sent()

    def accept(self, sender: int, index: int, round: int | None = None) -> Effects:  # noqa: A002
        """A follower answers that it holds everything up to `index`."""
        node = self.node
        node.receive(
            AppendReply(
                node.term, sender, True, index, 0, 0, node.round if round is None else round
            )
        )
        return self.take()

    def asked(self, term: int, sender: int, last_index: int, last_term: int, **flags: bool) -> Any:
        """A candidate asks for its vote; the answer, or None."""
        vote = Vote(
            term,
            sender,
            last_index,
            last_term,
            flags.get("pre", False),
            flags.get("transfer", False),
        )
        answers = [m for m in self.receive(vote) if isinstance(m, VoteReply)]
        return answers[0] if answers else None

    def terms(self) -> list[int]:
        """The terms of the log's entries."""
        log = self.node.log
        return [entry.term for entry in log.slice(log.first_index, log.last_index + 1)]


def command(index: int, term: int, data: Any = "x") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def entries_of(*terms: int, start: int = 1) -> tuple[Entry, ...]:
    """Consecutive entries with these terms."""
    return tuple(command(index, term) for index, term in enumerate(terms, start))


def pass_on(hands: dict[int, Hand], *, steps: int = 200) -> list[tuple[int, Message]]:
    """Deliver everything to everybody at once, until nothing is on its way. Returns all of it."""
    seen: list[tuple[int, Message]] = []
    for _ in range(steps):
        moving = [sent for hand in hands.values() for sent in hand.take().messages]
        if not moving:
            return seen
        for target, message in moving:
            seen.append((target, message))
            if target in hands:
                hands[target].node.receive(message)
    raise AssertionError("the messages never end")
