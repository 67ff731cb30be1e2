"""One member of the group, as a pure state machine: ticks and messages in, messages out.

SWIM: each period a node pings one other; without an answer it asks a few others to try; without an
answer still, it suspects. A suspect that hears of it speaks up with a higher incarnation; one that
does not is declared dead after a while. All of that spreads on the pings themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.cluster.gossip.rumours import Rumours, tellings
from labkit.cluster.gossip.table import Record, Table
from labkit.cluster.gossip.types import (
    Ack,
    Change,
    Member,
    Message,
    NodeId,
    Ping,
    PingRequest,
    Records,
    Status,
    Sync,
)
from labkit.world.ports import Rng

__all__ = ["Gossip", "GossipOptions"]


@dataclass(frozen=True, slots=True)
class GossipOptions:
    """Times are in ticks; the driver says how long a tick is (100 ms is usual).

    `period_ticks`: one ping each; the mean time to notice a death is about 1.6 periods (3.1).
    `ping_ticks`: how long a direct answer may take, before others are asked to try.
    `helpers`: how many are asked (k in 3.1). `suspicion_periods`: periods times log10(n) that a
    suspect has to speak up; too short declares slow nodes dead. `tell_factor`: λ of section 4.1.
    `fan_out`, `table_ticks`: news of the table goes to so many random nodes, so often.
    `sync_periods`: a full exchange with one random node; mends what rumours missed.
    `tombstone_periods`: how long deleted lines are remembered; longer than any partition that
    shall not bring them back.
    """

    period_ticks: int = 10
    ping_ticks: int = 4
    helpers: int = 3
    suspicion_periods: int = 4
    tell_factor: int = 4
    rumours_per_message: int = 8
    fan_out: int = 3
    table_ticks: int = 2
    records_per_message: int = 64
    sync_periods: int = 30
    tombstone_periods: int = 1800

    def __post_init__(self) -> None:
        if not 0 < self.ping_ticks < self.period_ticks:
            raise InvalidParameter("ping_ticks must be positive and below period_ticks")
        if min(self.fan_out, self.table_ticks, self.sync_periods, self.suspicion_periods) < 1:
            raise InvalidParameter("fan_out, table_ticks and periods must be at least 1")


class Gossip:
    """A member. Give it ticks and messages; collect `take()` after each."""

    def __init__(self, node_id: NodeId, rng: Rng, options: GossipOptions | None = None) -> None:
        self.id = node_id
        self.options = options or GossipOptions()
        self.table = Table(node_id)
        self.members: dict[NodeId, Member] = {node_id: Member(node_id, 0, Status.ALIVE)}
        self._rng = rng
        self._ticks = 0
        self._phase = rng.randrange(self.options.period_ticks)
        self._order: list[NodeId] = []
        self._probing: tuple[NodeId, int, bool] | None = None
        self._number = 0
        self._relays: dict[int, tuple[NodeId, int]] = {}
        self._suspects: dict[NodeId, int] = {}
        self._rumours: Rumours[NodeId, Member] = Rumours()
        self._news: dict[str, Rumours[str, Record]] = {"": Rumours()}
        """By scope: news of a scope goes to its members only."""
        self.scopes: set[str] = set()
        self._out: list[tuple[NodeId, Message]] = []
        self._changes: list[Change] = []

    # -- what a driver calls --------------------------------------------------

    def join(self, seeds: Iterable[NodeId]) -> None:
        """Get to know the group through nodes that are in it."""
        for seed in seeds:
            if seed != self.id:
                self._send(seed, self._sync(seed, reply=True))

    def leave(self) -> None:
        """Say goodbye, so that nobody has to suspect."""
        own = self.members[self.id]
        self._believe(own._replace(status=Status.LEFT))
        for peer in self._some(self.options.fan_out):
            self._send(peer, self._sync(peer, reply=False))

    def put(self, key: str, value: Any, scope: str = "") -> None:
        """Write one's own line of the table, and tell. Raises Conflict for another's.

        A line with a `scope` (an overlay network, say) reaches only nodes that have entered it,
        this one among them: raises InvalidParameter otherwise.
        """
        if scope and scope not in self.scopes:
            raise InvalidParameter(f"node {self.id} is not in scope {scope!r}")
        self._spread(self.table.put(key, value, scope))

    def delete(self, key: str) -> None:
        """Delete one's own line, and tell."""
        self._spread(self.table.delete(key, self._ticks))

    def enter(self, scope: str) -> None:
        """Take part in a scope from now on, and catch up with it."""
        if not scope:
            raise InvalidParameter("a scope needs a name; lines without one reach everybody")
        if scope in self.scopes:
            return
        members = self.members_of(scope)
        self.scopes.add(scope)
        self._spread(self.table.put(_membership(scope, self.id), scope))
        for peer in sorted(members)[: self.options.fan_out]:
            self._send(peer, self._sync(peer, reply=True))

    def leave_scope(self, scope: str) -> None:
        """Take no part any more: its lines are forgotten here, one's own everywhere."""
        if scope not in self.scopes:
            return
        for line in self.table.everything({scope}):
            if line.scope == scope and line.owner == self.id and not line.is_tombstone:
                self.delete(line.key)
        self._tell_news()
        self.delete(_membership(scope, self.id))
        self.scopes.discard(scope)
        self._news.pop(scope, None)
        self.table.drop_scope(scope)

    def members_of(self, scope: str) -> set[NodeId]:
        """Who has entered a scope, as far as is known here."""
        return {
            node for node in self.alive() if self.table.get(_membership(scope, node)) is not None
        }

    def take(self) -> tuple[list[tuple[NodeId, Message]], list[Change]]:
        """Messages to send, and what changed about whom, since the last call."""
        out, changes = self._out, self._changes
        if out or changes:
            self._out, self._changes = [], []
        return out, changes

    def alive(self) -> list[NodeId]:
        """Everybody who is not known to be dead or gone, this node included."""
        return sorted(m.id for m in self.members.values() if m.status <= Status.SUSPECT)

    # -- time --------------------------------------------------

    def tick(self) -> None:
        """One unit of time has passed."""
        self._ticks += 1
        options = self.options
        if self._suspects:
            self._judge_suspects()
        if self._ticks % options.table_ticks == 0:
            self._tell_news()
        place = (self._ticks + self._phase) % options.period_ticks
        if place == 0:
            self._begin_period()
        elif place == options.ping_ticks:
            self._ask_others()

    def _begin_period(self) -> None:
        if self._probing is not None:
            target, _, answered = self._probing
            self._probing = None
            known = self.members[target]
            if not answered and known.status is Status.ALIVE:
                self._believe(known._replace(status=Status.SUSPECT))
        self._relays.clear()
        period = self._ticks // self.options.period_ticks
        if (period + self.id) % self.options.sync_periods == 0:
            # One of the dead as well: after a partition each side thinks that of the other.
            dead = sorted(m.id for m in self.members.values() if m.status is Status.DEAD)
            for peer in self._some(1) + ([self._rng.choice(dead)] if dead else []):
                self._send(peer, self._sync(peer, reply=True))
            self.table.reap(
                self._ticks - self.options.tombstone_periods * self.options.period_ticks
            )
        following = self._next_target()
        if following is not None:
            self._number += 1
            self._probing = (following, self._number, False)
            self._ping(following, self._number)

    def _ask_others(self) -> None:
        if self._probing is None or self._probing[2]:
            return
        target, number, _ = self._probing
        for helper in self._some(self.options.helpers, without=target):
            self._send(helper, PingRequest(self.id, number, target, self._tell()))

    def _next_target(self) -> NodeId | None:
        """Everybody once, in random order, then again: a death is noticed within 2n - 1 (4.3)."""
        while True:
            if not self._order:
                self._order = [node for node in self.alive() if node != self.id]
                if not self._order:
                    return None
                self._rng.shuffle(self._order)
            target = self._order.pop()
            if self.members[target].status <= Status.SUSPECT:
                return target

    def _judge_suspects(self) -> None:
        for node in [node for node, until in self._suspects.items() if until <= self._ticks]:
            known = self.members[node]
            if known.status is Status.SUSPECT:
                self._believe(known._replace(status=Status.DEAD))

    # -- messages --------------------------------------------------

    def receive(self, message: Message) -> None:
        """A message has arrived. One of an unknown type raises InvalidParameter."""
        handler = _HANDLERS.get(type(message))
        if handler is None:
            raise InvalidParameter(f"node {self.id} cannot make sense of {message!r}")
        handler(self, message)

    def _on_ping(self, message: Ping) -> None:
        self._hear(message.rumours)
        self._send(message.sender, Ack(self.id, message.number, self._tell(message.sender)))

    def _on_ping_request(self, message: PingRequest) -> None:
        self._hear(message.rumours)
        self._number += 1
        self._relays[self._number] = (message.sender, message.number)
        self._ping(message.target, self._number)

    def _on_ack(self, message: Ack) -> None:
        self._hear(message.rumours)
        relay = self._relays.pop(message.number, None)
        if relay is not None:
            self._send(relay[0], Ack(self.id, relay[1], self._tell()))
        elif self._probing is not None and self._probing[1] == message.number:
            self._probing = (self._probing[0], message.number, True)

    def _on_sync(self, message: Sync) -> None:
        self._hear(message.members)
        self._take_records(message.records)
        if message.reply:
            self._send(message.sender, self._sync(message.sender, reply=False))

    def _on_records(self, message: Records) -> None:
        self._take_records(message.records)

    # -- rumours --------------------------------------------------

    def _hear(self, rumours: Iterable[Member]) -> None:
        for rumour in rumours:
            if rumour.id == self.id:
                self._defend(rumour)
            elif rumour.overrides(self.members.get(rumour.id)):
                self._believe(rumour)

    def _defend(self, rumour: Member) -> None:
        """Only a node itself raises its incarnation, to refute what is said about it (4.2)."""
        own = self.members[self.id]
        if rumour.overrides(own) and own.status is Status.ALIVE:
            self._believe(Member(self.id, rumour.incarnation + 1, Status.ALIVE))

    def _believe(self, rumour: Member) -> None:
        node = rumour.id
        known = self.members.get(node)
        self.members[node] = rumour
        self._rumours.add(node, rumour)
        before = known.status if known is not None else None
        if before is not rumour.status:
            self._changes.append(Change(node, before, rumour.status))
        if rumour.status is Status.SUSPECT:
            patience = tellings(len(self.members), self.options.suspicion_periods)
            self._suspects[node] = self._ticks + patience * self.options.period_ticks
        else:
            self._suspects.pop(node, None)
        if rumour.status >= Status.DEAD:
            self.table.forget_owner(node)
        elif node != self.id and (before is None or before >= Status.DEAD):
            # A newcomer takes a random place in the round (4.3).
            self._order.insert(self._rng.randrange(len(self._order) + 1), node)

    def _tell(self, listener: NodeId | None = None) -> tuple[Member, ...]:
        limit = tellings(len(self.members), self.options.tell_factor)
        told = self._rumours.next(self.options.rumours_per_message, limit)
        if listener is not None and listener in self._suspects:
            told = (self.members[listener], *told)  # let the suspect know first
        return told

    def _spread(self, record: Record) -> None:
        self._news.setdefault(record.scope, Rumours()).add(record.key, record)

    def _tell_news(self) -> None:
        for scope, rumours in self._news.items():
            if not len(rumours):
                continue
            if scope:
                members = sorted(self.members_of(scope) - {self.id})
                self._rng.shuffle(members)
                peers, size = members[: self.options.fan_out], len(members) + 1
            else:
                peers, size = self._some(self.options.fan_out), len(self.members)
            limit = tellings(size, self.options.tell_factor)
            news = rumours.next(self.options.records_per_message, limit)
            for peer in peers:
                self._send(peer, Records(self.id, news))

    def _take_records(self, records: Iterable[Record]) -> None:
        for_us = [r for r in records if not r.scope or r.scope in self.scopes]
        for record in self.table.news(for_us, self._ticks):
            self._spread(record)

    # -- small things --------------------------------------------------

    def _ping(self, target: NodeId, number: int) -> None:
        self._send(target, Ping(self.id, number, self._tell(target)))

    def _sync(self, peer: NodeId, *, reply: bool) -> Sync:
        shared = {scope for scope in self.scopes if self.table.get(_membership(scope, peer))}
        records = self.table.everything(shared)
        return Sync(self.id, tuple(self.members.values()), records, reply)

    def _some(self, count: int, without: NodeId = 0) -> list[NodeId]:
        """Random nodes that are thought alive: drawn, not sorted out of a list of a thousand."""
        everybody = list(self.members)
        chosen: list[NodeId] = []
        for _ in range(count * 4):
            node = self._rng.choice(everybody)
            usable = node not in (self.id, without) and node not in chosen
            if usable and self.members[node].status <= Status.SUSPECT:
                chosen.append(node)
                if len(chosen) == count:
                    break
        return chosen

    def _send(self, to: NodeId, message: Message) -> None:
        self._out.append((to, message))


def _membership(scope: str, node: NodeId) -> str:
    """The line that says that a node has entered a scope."""
    return f"scope/{scope}/{node}"


_HANDLERS: dict[type, Callable[[Gossip, Any], None]] = {
    Ping: Gossip._on_ping,
    PingRequest: Gossip._on_ping_request,
    Ack: Gossip._on_ack,
    Sync: Gossip._on_sync,
    Records: Gossip._on_records,
}
