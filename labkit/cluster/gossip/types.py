"""The words of the rumour mill.

Sections are those of Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style
Process Group Membership Protocol" (DSN 2002).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from labkit.cluster.gossip.table import Record

__all__ = [
    "Ack",
    "Change",
    "Member",
    "Message",
    "NodeId",
    "Ping",
    "PingRequest",
    "Records",
    "Status",
    "Sync",
]

NodeId: TypeAlias = int


class Status(IntEnum):
    """What is said about a node; of two rumours with one incarnation the later word wins (4.2)."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Member(NamedTuple):
    """A rumour: `incarnation` counts how often the node itself has spoken up (4.2)."""

    id: NodeId
    incarnation: int
    status: Status

    def overrides(self, known: Member | None) -> bool:
        """Whether this rumour replaces what is known (the preference rules of section 4.2).

        Who is dead or has left comes back by speaking up with a higher incarnation.
        """
        return known is None or (self.incarnation, self.status) > (known.incarnation, known.status)


class Ping(NamedTuple):
    """Are you there? Rumours ride along (4.1)."""

    sender: NodeId
    number: int
    rumours: tuple[Member, ...]


class Ack(NamedTuple):
    """I am, or somebody whom I asked for you is."""

    sender: NodeId
    number: int
    rumours: tuple[Member, ...]


class PingRequest(NamedTuple):
    """I cannot reach `target`; can you? (3.1)"""

    sender: NodeId
    number: int
    target: NodeId
    rumours: tuple[Member, ...]


class Sync(NamedTuple):
    """Everything I know, when joining and now and then; with `reply`, tell me what you know."""

    sender: NodeId
    members: tuple[Member, ...]
    records: tuple[Record, ...]
    reply: bool


class Records(NamedTuple):
    """News for the endpoint table."""

    sender: NodeId
    records: tuple[Record, ...]


class Change(NamedTuple):
    """Something about a node changed, for whoever drives this one."""

    id: NodeId
    before: Status | None
    after: Status


Message: TypeAlias = Ping | Ack | PingRequest | Sync | Records
