"""The lab's swarm: its managers, what is written down about them, and how they are asked.

    swarm/swarm.json        who belongs to it, and how fast its clock ticks
    swarm/NAME/raft.sqlite  a manager's journal; disk.json and peers.json beside it

All of it is in the daemon's process. A daemon that comes up again brings the managers up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, NotFound, Unavailable
from labkit.base.ids import new_id
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.quorum import majority
from labkit.cluster.raft.types import Config, Role
from labkit.cluster.store.commands import Command, Once, Range, pack, unpack
from labkit.cluster.store.results import Result
from labkit.cluster.store.watching import Notice
from labkit.daemon.swarm.diskidentity import write_json
from labkit.daemon.swarm.member import Member
from labkit.daemon.swarm.recorder import Recorder
from labkit.daemon.swarm.surroundings import Surroundings
from labkit.daemon.swarm.timings import settings_for
from labkit.daemon.swarm.weather import Weather
from labkit.world.real.transport import Place

__all__ = ["MANAGERS_MAX", "SwarmCluster"]

_LOG = logging.getLogger("labkit.swarm")

MANAGERS_MAX = 9
_ANSWER_S = 30.0
_PAUSE_S = 0.02
_GREETING_S = 3.0
_NO_LEADER = (
    "The swarm does not have a leader. It's possible that too few managers are online. "
    "Make sure more than half of the managers are online."
)

Json = dict[str, Any]
_ID_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
PlaceOf = Callable[[str, str], Place]
"""Where the second node is reached from the first (or listens itself, when both are the same)."""


def swarm_id() -> str:
    """25 digits of base 36, as swarm's objects have."""
    return "".join(secrets.choice(_ID_DIGITS) for _ in range(25))


class SwarmCluster:
    """A swarm that is up. `members` are its managers by number."""

    def __init__(
        self, folder: Path, record: Mapping[str, Any], place_of: PlaceOf, weather: Weather
    ) -> None:
        self.folder = folder
        self.record: Json = dict(record)
        self._place_of = place_of
        names: dict[int, str] = {int(n): str(name) for n, name in record["managers"].items()}
        self.settings = settings_for(str(record["clock"]))
        self.recorder = Recorder(self._meta(names))
        self.weather = weather
        self._executor = ThreadPoolExecutor(2, "swarm-disk")
        self.names = names
        self.members: dict[int, Member] = {}
        self._begin_session()
        self._turn = asyncio.Lock()

    def _meta(self, names: Mapping[int, str]) -> Json:
        options = self.settings.options
        return {
            "swarm": self.record["id"],
            "names": {str(number): name for number, name in names.items()},
            "clock": self.record["clock"],
            "tick_ns": int(self.settings.tick_s * 1e9),
            "election_ticks": options.election_ticks,
            "heartbeat_ticks": options.heartbeat_ticks,
        }

    # -- life --------------------------------------------------------------------------------------

    @staticmethod
    def found_in(folder: Path) -> Json | None:
        """The record of a swarm that is up in this folder, or None."""
        try:
            found: Json = json.loads((folder / "swarm.json").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Conflict(f"cannot read {folder / 'swarm.json'}: {error}") from None
        return found

    @classmethod
    async def create(
        cls,
        folder: Path,
        nodes: tuple[list[str], list[str]],
        clock: str,
        place_of: PlaceOf,
        weather: Weather,
    ) -> SwarmCluster:
        """A new swarm of these managers and workers. Raises InvalidParameter for a bad number."""
        managers, workers = nodes
        if not 1 <= len(managers) <= MANAGERS_MAX:
            raise InvalidParameter(
                f"a swarm has 1 to {MANAGERS_MAX} managers, not {len(managers)}",
                hint="3 or 5: an even number survives no more than the odd one below it",
            )
        settings_for(clock)
        record = {
            "id": swarm_id(),
            "clock": clock,
            "managers": {str(number): name for number, name in enumerate(managers, 1)},
            "workers": workers,
        }
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        swarm = cls(folder, record, place_of, weather)
        write_json(folder / "swarm.json", record)
        await swarm.open()
        await swarm._begin()
        return swarm

    async def _begin(self) -> None:
        """A new swarm has no leader to wait for: its first manager stands as soon as it can be
        heard, as `docker swarm init` makes the first node lead at once."""
        first = self.members[min(self.members)]
        peers = [number for number in self.members if number != first.number]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GREETING_S):
                while not all(first.is_connected(peer) for peer in peers):  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE_S)
        if first.up:
            first.act(Node.campaign)

    async def open(self) -> None:
        """Bring the managers up; what fails to come up is said in the status, not raised."""
        config = Config(frozenset(self.names))
        for number, name in self.names.items():
            places = {n: self._place_of(name, other) for n, other in self.names.items()}
            around = Surroundings(
                str(self.record["id"]),
                self.names,
                places,
                self.weather,
                self._executor,
                self.recorder,
            )
            member = Member(number, around, config, self.settings, folder=self.folder / name)
            self.members[number] = member
        for member in self.members.values():
            await self.start_member(member)

    async def start_member(self, member: Member) -> None:
        """Bring one manager up again. Its failure is kept for the status."""
        try:
            await member.start()
        except LabkitError as error:
            member.failure = error
            _LOG.error("%s does not come up: %s", member.name, error)

    async def close(self) -> None:
        """Let go of everything; the next daemon finds it as it is."""
        for member in self.members.values():
            member.crash()
        await asyncio.to_thread(self._executor.shutdown)

    async def remove(self) -> None:
        """End the swarm for good."""
        await self.close()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def set_clock(self, clock: str) -> None:
        """Docker's timings or a lesson's, from now on and after a restart."""
        settings = settings_for(clock)
        self.record["clock"] = clock
        write_json(self.folder / "swarm.json", self.record)
        self.settings = settings
        for member in self.members.values():
            member.settings = settings
        self.recorder.trace.meta.update(self._meta(self.names))
        self.recorder.note(f"the clock is {clock}: a tick is {settings.tick_s:g} s")

    # -- asking ------------------------------------------------------------------------------------

    def named(self, name: str) -> Member:
        """A manager by its node's name. Raises NotFound."""
        for member in self.members.values():
            if member.name == name:
                return member
        raise NotFound(
            f"{name} is no manager of this swarm", hint=f"one of: {', '.join(self.names.values())}"
        )

    def leader(self) -> Member | None:
        """Who leads, as far as that can be seen from outside: the highest term that is up."""
        leading = [
            m for m in self.members.values() if m.up and not m.paused and m.node.role is Role.LEADER
        ]
        return max(leading, key=lambda m: m.node.term) if leading else None

    async def write(self, command: Command, *, timeout_s: float = _ANSWER_S) -> Result:
        """Write through whoever leads, exactly once, also when the leader falls meanwhile.

        Raises what the store answers, or Unavailable with Docker's sentence about a swarm without
        a leader; then it may still happen.
        """
        unpack(pack(command))  # what the store could not read must not cost the session a number
        async with self._turn:
            self._number += 1
            once = self._once(command)
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._insist(once)
            except TimeoutError:
                self._begin_session()
                raise Unavailable(_NO_LEADER, hint="%lab raft shows who is up") from None
            except asyncio.CancelledError:
                self._begin_session()
                raise

    def _begin_session(self) -> None:
        """A command stays unanswered, and its session cannot go on: take another name."""
        self._client, self._number = f"labkitd-{new_id()[:12]}", 0

    def _once(self, command: Any) -> Once:
        return Once(self._client, self._number, command)

    async def _insist(self, once: Once) -> Result:
        while True:
            leader = self.leader()
            if leader is not None:
                try:
                    async with asyncio.timeout(self.settings.tick_s * 20):
                        return await leader.submit(once)
                except (TimeoutError, Unavailable):
                    pass  # perhaps it happened: the session makes asking again harmless
            await asyncio.sleep(_PAUSE_S)

    async def read(self, wanted: Range, *, timeout_s: float = _ANSWER_S) -> Result:
        """A linearizable read through any manager that can. Raises Unavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for member in self.members.values():
                        if not member.up or member.paused:
                            continue
                        with contextlib.suppress(Unavailable, TimeoutError):
                            async with asyncio.timeout(self.settings.tick_s * 5):
                                return await member.query(wanted)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable(_NO_LEADER, hint="%lab raft shows who is up") from None

    async def watch(self, key: str, end: str | None, after: int) -> AsyncIterator[Notice]:
        """Changes under some keys after a revision, from a manager that is up."""
        member = next((m for m in self.members.values() if m.up and not m.paused), None)
        if member is None:
            raise Unavailable(_NO_LEADER)
        number, queue = member.watch(key, end, after)
        try:
            while True:
                yield await queue.get()
        finally:
            member.unwatch(number)

    # -- what is said about it ---------------------------------------------------------------------

    def status(self) -> Json:
        """Sizes, clock, quorum, who leads, and each node's part in it."""
        leader = self.leader()
        up = [m for m in self.members.values() if m.up and not m.paused]
        needed = majority(len(self.members))
        options = self.settings.options
        return {
            "id": self.record["id"],
            "clock": self.record["clock"],
            "tick_s": self.settings.tick_s,
            "election_ticks": options.election_ticks,
            "heartbeat_ticks": options.heartbeat_ticks,
            "managers": len(self.members),
            "up": len(up),
            "quorum": needed,
            "may_fail": len(self.members) - needed,
            "leader": leader.name if leader is not None else "",
            "revision": leader.replica.machine.revision if leader is not None else None,
            "nodes": [
                *(self._manager(member) for member in self.members.values()),
                *({"name": w, "role": "worker", "manager": ""} for w in self.record["workers"]),
            ],
        }

    def _manager(self, member: Member) -> Json:
        leader = self.leader()
        if member is leader:
            word = "Leader"
        else:
            word = "Reachable" if member.up and not member.paused else "Unreachable"
        failure = member.failure.message if member.failure is not None else ""
        return {
            "name": member.name,
            "role": "manager",
            "manager": word,
            "failure": failure,
            "refusals": member.gate.refusals[-3:],
        }

    def table(self) -> list[Json]:
        """The rows of `%lab raft`."""
        rows = []
        for number, member in self.members.items():
            row: Json = {"id": number, "name": member.name, "up": member.up}
            if hasattr(member, "node"):
                node = member.node
                row |= member.state()
                row |= {"last": node.log.last_index, "last_term": node.log.last_term}
                row["bad_messages"] = member.bad_messages
                row["speed"] = member.speed
            rows.append(row)
        return rows
