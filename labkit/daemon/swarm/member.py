"""One manager on the wall clock: a store replica, its disk, its sockets, its timer.

The same care as in the simulation (cluster/raft/simulation/server.py): write, sync, then send, then
apply. While a sync is on its way whatever happens gathers into the next batch, which is group
commit. Everything but the sync itself happens on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from labkit.base.errors import LabkitError, SystemFailure
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.errors import BadMessage, InvariantViolated
from labkit.cluster.raft.journal import Recovered
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.picture import picture
from labkit.cluster.raft.types import Config
from labkit.cluster.raft.wire import decode, encode_body, encode_numbered, pack
from labkit.cluster.store.commands import Command, Range
from labkit.cluster.store.errors import Indefinite
from labkit.cluster.store.replica import Replica
from labkit.cluster.store.results import Result
from labkit.cluster.store.watching import Notice
from labkit.daemon.swarm.desk import Desk
from labkit.daemon.swarm.diskidentity import DiskIdentity
from labkit.daemon.swarm.gate import Gate
from labkit.daemon.swarm.storage import Storage
from labkit.daemon.swarm.surroundings import MemberSettings, Surroundings
from labkit.world.ports import Cipher
from labkit.world.real.transport import Transport

__all__ = ["Member"]

_LOG = logging.getLogger("labkit.swarm")
_SHOWN_ENTRIES = 64
_SHOWN_PROPOSAL_CHARS = 80


class Member:
    """One manager. `start` brings it up from its folder or from nothing; `crash` pulls the plug."""

    def __init__(
        self,
        number: int,
        around: Surroundings,
        first: Config,
        settings: MemberSettings,
        *,
        folder: Path | None,
        cipher: Cipher | None = None,
    ) -> None:
        """`first` is the configuration of a cluster that has none on disk yet."""
        self.number = number
        self.settings = settings
        self.up = False
        self.paused = False
        self.speed = 1.0
        """How fast its clock runs (`labkit chaos clock-skew`)."""
        self.failure: LabkitError | None = None
        """Why it stopped by itself: a full disk, a broken promise."""
        self.gate = Gate(number, around)
        self.bad_messages = 0
        self.identity = DiskIdentity("", 0)
        self._around = around
        self._first = first
        self._folder = folder
        self._cipher = cipher
        self._storage: Storage | None = None
        self._busy: asyncio.Future[None] | None = None
        self._flushing = False
        self._pumping = False
        self._generation = 0
        self._frames = 0
        self._desk = Desk()
        self._held: list[tuple[int, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._rng = random.Random()  # noqa: S311 - election timeouts, no secrets

    @property
    def name(self) -> str:
        """What people call it."""
        return self._around.names.get(self.number, str(self.number))

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up with what the disk holds, listen, and call the others.

        Raises SystemFailure when the disk cannot be opened, InvalidParameter when its key does not
        fit or its content contradicts itself.
        """
        assert not self.up
        self._loop = asyncio.get_running_loop()
        if self._busy is not None:
            # Its disk is still at work for its life before the crash.
            await asyncio.wait([self._busy])
            await asyncio.sleep(0)
        self._flushing = False
        folder = self._folder
        self._storage = Storage(folder, self._cipher) if folder is not None else None
        try:
            self.gate.open(folder)
            self._make_node()
        except BaseException:
            self._forget_storage()
            raise
        every, keep = self.settings.snapshot_every, self.settings.keep
        self.replica = Replica(self.node, snapshot_every=every, keep=keep)
        self._generation += 1
        self._flushing = self._pumping = False
        self.up, self.paused, self.failure = True, False, None
        self._transport = Transport(self._around.places[self.number], self._hello(), self)
        try:
            await self._transport.open()
        except OSError as error:
            self._close()
            raise SystemFailure(f"{self.name} cannot listen: {error.strerror or error}") from error
        self.meet_everybody()
        self._tick_due = self._loop.time()
        self._plan_tick()
        self._tell("boot")

    def _make_node(self) -> None:
        found = Recovered(None, None, [])
        self.identity = DiskIdentity("", 0)
        if self._storage is not None:
            found, self.identity = self._storage.found, self._storage.identity
        self.node = Node(
            self.number,
            self._first,
            self._rng,
            self.settings.options,
            hard_state=found.hard_state,
            snapshot=found.snapshot,
            entries=found.entries,
        )

    def _forget_storage(self) -> None:
        storage, self._storage = self._storage, None
        if storage is not None and not self._flushing:
            storage.close()

    def meet_everybody(self) -> None:
        """Call all members that have a place; new ones too."""
        for peer, place in self._around.places.items():
            if peer != self.number:
                self._transport.meet(peer, place)

    def _hello(self) -> dict[str, Any]:
        return {
            "labkit": 1,
            "swarm": self._around.swarm,
            "node": self.number,
            "disk": self.identity.name,
            "starts": self.identity.starts,
        }

    def crash(self) -> None:
        """Stop at once: what is not synced is lost, nobody is told."""
        if self.up:
            self._close()
            self._tell("crash")

    def _close(self) -> None:
        self.up = False
        self._generation += 1
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()
        self._held.clear()
        self._desk.fail(self.name)
        self._forget_storage()

    def pause(self) -> None:
        """Stand still, as a suspended machine does; connections stay open and fill up."""
        if self.up and not self.paused:
            self.paused = True
            self._paused_at = self._loop.time()
            self._tell("pause")

    def resume(self) -> None:
        """Go on. Its own clock says how long it stood still."""
        if not self.up or not self.paused:
            return
        self.paused = False
        missed = int((self._loop.time() - self._paused_at) / self.settings.tick_s)
        self.node.slept(missed + 1)
        self._tick_due = self._loop.time()
        self._plan_tick()
        self._tell("resume")
        held, self._held = self._held, []
        for peer, payload in held:
            with contextlib.suppress(LabkitError):
                self.arrived(peer, payload)
        self._wake()

    # -- time --------------------------------------------------------------------------------------

    def _plan_tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._tick_due += self.settings.tick_s / self.speed
        self._timer = self._loop.call_at(self._tick_due, self._tick)

    def _tick(self) -> None:
        if not self.up or self.paused:
            return
        late = int((self._loop.time() - self._tick_due) / self.settings.tick_s)
        if late > 0:
            # The machine slept or was busy: leases must know, patience must not run out at once.
            self.node.slept(late)
            self._tick_due = self._loop.time()
        self._plan_tick()
        self._do("tick", self.replica.tick)

    # -- messages ----------------------------------------------------------------------------------

    def introduced(self, hello: Mapping[str, Any]) -> int:
        """A peer calls (TransportHandler). Raises LabkitError to refuse it."""
        return self.gate.introduced(hello)

    def arrived(self, peer: int, payload: bytes) -> None:
        """A frame (TransportHandler). Raises BadMessage when no member sends such a thing."""
        if not self.up:
            return
        if self.paused:
            self._held.append((peer, payload))
            return
        try:
            number, message = decode(payload)
            if message.sender != peer:
                raise BadMessage(f"node {peer} speaks for node {message.sender}")
            self._do(
                "deliver", partial(self.replica.receive, message), {"from": peer, "id": number}
            )
        except BadMessage:
            self.bad_messages += 1
            raise
        except InvariantViolated as error:
            # A broken promise of somebody else's: it does not count, and is told by name.
            self.gate.note(error.message)

    def refused(self, peer: int, reason: str) -> None:
        """A peer does not let us in, or was cut off (TransportHandler)."""
        self.gate.note(f"{self._around.names.get(peer, peer)}: {reason}")

    def _send(self, target: int, frame: bytes) -> None:
        if self.up and not self._transport.send(target, frame):
            self.node.unreachable(target)

    # -- what is asked of it -----------------------------------------------------------------------

    async def submit(self, command: Command) -> Result:
        """Replicate a command; returns when it is applied here. Raises what the store answers.

        Raises NotLeader (definite) on a follower, Indefinite when it may or may not happen.
        """
        shown = repr(command)[:_SHOWN_PROPOSAL_CHARS]
        detail = {"key": getattr(command, "key", ""), "value": shown}
        return await self._ask("propose", lambda n: self.replica.submit(n, command), detail)

    async def query(self, wanted: Range) -> Result:
        """A linearizable read. Raises NotLeader when no leader is known."""
        return await self._ask("read", lambda n: self.replica.query(n, wanted), {})

    async def _ask(self, kind: str, action: Any, detail: dict[str, Any]) -> Result:
        if not self.up or self.paused:
            raise Indefinite(f"{self.name} does not answer", hint="ask another manager")
        number, future = self._desk.open()
        try:
            self._do(kind, partial(action, number), detail)
            return await future
        finally:
            if self._desk.close(number) and self.up:
                self.replica.give_up(number)

    def watch(self, key: str, end: str | None, after: int) -> tuple[int, asyncio.Queue[Notice]]:
        """Follow some keys; the number ends it (`unwatch`)."""
        return self._desk.watch(self.replica, key, end, after)

    def unwatch(self, number: int) -> None:
        """Nobody listens any more."""
        self._desk.unwatch(self.replica, number)

    def is_connected(self, peer: int) -> bool:
        """Whether that member has let this one in."""
        return self.up and self._transport.is_connected(peer)

    def act(self, action: Any) -> Any:
        """Let an operator do something to the node (transfer, change_members)."""
        return self._do("ask", partial(action, self.node))

    # -- effects -----------------------------------------------------------------------------------

    def _do(self, kind: str, action: Any, detail: dict[str, Any] | None = None) -> Any:
        try:
            return action()
        finally:
            self._tell(kind, detail)
            self._wake()

    def _wake(self) -> None:
        if not self._pumping and self.up:
            self._pumping = True
            self._loop.call_soon(self._pump, self._generation)

    def _pump(self, generation: int) -> None:
        if generation != self._generation:
            return
        self._pumping = False
        while self.up and not self._flushing and not self.paused:
            effects = self.replica.take()
            if not effects:
                return
            if effects.must_sync and self._storage is not None:
                self._storage.write(effects)
                self._flush(self._storage.sync, partial(self._synced, effects))
            else:
                self._finish(effects)

    def _flush(self, work: Any, then: Any) -> None:
        """Do the disk's work aside; events that come meanwhile gather into the next batch."""
        self._flushing = True
        generation, storage, executor = self._generation, self._storage, self._around.executor
        if executor is None:
            work()
            self._flushed(generation, storage, then, None)
            return
        self._busy = self._loop.run_in_executor(executor, work)
        self._busy.add_done_callback(
            lambda done: self._flushed(generation, storage, then, done.exception())
        )

    def _flushed(
        self, generation: int, storage: Storage | None, then: Any, error: BaseException | None
    ) -> None:
        self._busy = None
        if generation != self._generation:
            if storage is not None:
                storage.close()  # the member was stopped while its disk was busy
            return
        self._flushing = False
        if error is not None:
            self.failure = error if isinstance(error, LabkitError) else SystemFailure(str(error))
            _LOG.error("%s stops: %s", self.name, error)
            self.crash()
            return
        then()
        self._wake()

    def _synced(self, effects: Effects) -> None:
        self._tell("write")
        self._finish(effects)

    def _finish(self, effects: Effects) -> None:
        last, body = None, b""
        for target, message in effects.messages:
            self._frames += 1
            if message != last:
                last, body = message, encode_body(message)
            frame = encode_numbered(self._frames, body)
            delay = self._around.weather.fate(self.name, self._around.names.get(target, ""))
            if self._around.recorder is not None:
                self._tell_message(target, message, lost=delay is None)
            if delay is None:
                continue
            if delay:
                self._loop.call_later(delay, self._send, target, frame)
            else:
                self._send(target, frame)
        self._desk.answer(self.replica.finish(effects))
        self._desk.notify(self.replica)
        if effects.committed:
            self._tell("apply")
        made = self.replica.snapshot()
        if made is not None and self._storage is not None:
            what = self._storage.compact(self.node, made)
            self._flush(partial(self._storage.replace, *what), lambda: None)

    # -- pictures ----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a picture of this member shows."""
        return picture(
            self.node,
            up=self.up,
            paused=self.paused,
            applied=self.replica.applied,
            unsynced=len(self.node.effects.entries),
            entries_max=_SHOWN_ENTRIES,
        )

    def _tell(self, kind: str, detail: dict[str, Any] | None = None) -> None:
        recorder = self._around.recorder
        if recorder is not None and not recorder.is_thinning(kind):
            recorder.record(kind, self.number, detail, self.state())

    def _tell_message(self, target: int, message: Any, *, lost: bool) -> None:
        recorder = self._around.recorder
        kind = "lost" if lost else "send"
        if recorder is not None and not recorder.is_thinning(kind):
            detail = {"to": target, "id": self._frames, "message": pack(message)}
            if not lost:
                detail["delay_ns"] = None
            recorder.record(kind, self.number, detail)
