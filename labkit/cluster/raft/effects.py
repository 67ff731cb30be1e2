"""What a step decided, for the driver to carry out in this order.

1. Write `hard_state`, then `snapshot`, then `entries` (whatever the disk holds from the first
   one's index on is replaced); make them durable. In this order, because a crash may keep a part:
   entries of a term that the disk does not know yet would make no sense after it.
2. Only then send `messages`: each may promise what was just written (figure 3.1, "updated on
   stable storage before responding to RPCs").
3. Apply `committed` to the state machine, in order; then answer `reads` whose index is applied.
"""

from __future__ import annotations

from labkit.cluster.raft.types import (
    Entry,
    HardState,
    Message,
    NodeId,
    ReadReady,
    Snapshot,
)

__all__ = ["Effects"]


class Effects:
    """One batch. Several steps may gather into one batch: one disk write, then the messages."""

    __slots__ = ("committed", "entries", "hard_state", "messages", "reads", "snapshot")

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        self.snapshot: Snapshot | None = None
        self.entries: list[Entry] = []
        self.messages: list[tuple[NodeId, Message]] = []
        self.committed: tuple[Entry, ...] = ()
        self.reads: list[ReadReady] = []

    @property
    def must_sync(self) -> bool:
        """Whether something has to reach the disk before the messages go out."""
        return bool(self.entries) or self.hard_state is not None or self.snapshot is not None

    def __bool__(self) -> bool:
        return bool(self.messages or self.committed or self.reads) or self.must_sync
