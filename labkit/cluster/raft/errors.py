"""Why a Raft server refuses.

`definite` tells a client whether the request may still take effect later (style: say whether it
happened): a refusal before the entry was appended is definite.
"""

from __future__ import annotations

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, Unavailable
from labkit.cluster.raft.types import NO_NODE, NodeId

__all__ = [
    "BadMessage",
    "ChangeInProgress",
    "InvariantViolated",
    "NotLeader",
    "RestoredDisk",
    "TransferInProgress",
]


class NotLeader(Unavailable):
    """This server does not lead; `leader` is who does, as far as it knows."""

    definite = True

    def __init__(self, leader: NodeId) -> None:
        known = f"node {leader} does" if leader != NO_NODE else "no leader is known"
        super().__init__(f"this node does not lead the cluster; {known}")
        self.leader = leader


class TransferInProgress(Unavailable):
    """The leader is handing over and takes nothing new meanwhile (section 3.10)."""

    definite = True


class ChangeInProgress(Conflict):
    """At most one membership change is under way at a time (section 4.1)."""

    definite = True


class BadMessage(InvalidParameter):
    """A message that no correct server sends; it is dropped and changes nothing."""

    definite = True


class InvariantViolated(LabkitError):
    """Two servers disagree about something Raft makes impossible: a bug, or a lost disk."""


class RestoredDisk(InvariantViolated):
    """`peer` has promised entries that it does not hold any more: an old copy of its disk.

    It may have forgotten its vote as well, so nothing that it says counts. Take the member out of
    the cluster and add it anew, with an empty disk, under another id.
    """

    def __init__(self, peer: NodeId, promised: int, refused: int) -> None:
        super().__init__(
            f"node {peer} refuses entry {refused}, after it has promised to hold everything up to "
            f"{promised}: its disk is an old copy",
            hint="remove this member and add it again with an empty disk",
        )
        self.peer = peer
