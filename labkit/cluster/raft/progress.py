"""What a leader knows about one follower, and how fast it may send to it.

Three states (the idea is section 10.2.1's pipelining, made safe against loss):

    probe      we do not know where the logs agree: one message per round, wait for the answer
    replicate  we do: send ahead of the answers, at most `inflight_max` messages
    snapshot   the entries it needs are gone: chunks of a snapshot, one after the other
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

__all__ = ["Flow", "Progress"]


class Flow(IntEnum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One follower. `match` is the highest index known to be replicated there (figure 3.1)."""

    __slots__ = (
        "flow",
        "inflight",
        "match",
        "match_round",
        "next",
        "probe_sent",
        "recent_active",
        "round",
        "snapshot_index",
        "snapshot_offset",
    )

    def __init__(self, next_index: int) -> None:
        self.match = 0
        self.match_round = 0
        """The leader's round when it learnt of `match`: what it sent later, it sent knowing it."""
        self.next = next_index
        self.flow = Flow.PROBE
        self.inflight: deque[int] = deque()
        """The last index of each message on its way."""
        self.probe_sent = False
        self.recent_active = False
        """Heard from since the leader last counted its quorum (6.2)."""
        self.round = 0
        """The latest heartbeat round it has answered (6.4)."""
        self.snapshot_index = 0
        self.snapshot_offset = 0

    def accepted(self, index: int) -> bool:
        """The follower holds everything up to `index`. Returns whether that is news."""
        news = index > self.match
        if news:
            self.match = index
        if self.next <= index:
            self.next = index + 1
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        self.probe_sent = False
        return news

    def become_probe(self) -> None:
        """Something was lost or refused: find the place again, one message at a time."""
        self.flow = Flow.PROBE
        self.inflight.clear()
        self.probe_sent = False
        self.next = self.match + 1

    def become_replicate(self) -> None:
        self.flow = Flow.REPLICATE
        self.inflight.clear()
        self.probe_sent = False
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self.flow = Flow.SNAPSHOT
        self.inflight.clear()
        self.probe_sent = False
        self.snapshot_index = index
        self.snapshot_offset = 0
