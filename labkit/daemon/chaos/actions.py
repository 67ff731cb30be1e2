"""Chaos: what can be broken, on the control plane's messages and on the underlay's packets.

Every action is written down with its time and its targets, whoever asked for it (`labkit chaos
ls`); so when a cluster behaves strangely one can see what was done to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, Unavailable
from labkit.daemon.chaos.amounts import milliseconds, share

if TYPE_CHECKING:
    from labkit.daemon.fleet import Fleet

__all__ = ["ACTIONS", "Chaos"]

_LOG = logging.getLogger("labkit.chaos")
_KEPT = 500
_SKEW_MOST = 9.0

Json = dict[str, Any]


class Chaos:
    """Breaks the nodes and managers of one fleet."""

    def __init__(self, fleet: Fleet, path: Path) -> None:
        """`path` is the record, one JSON object a line."""
        self._fleet = fleet
        self._path = path
        self._monkey: asyncio.Task[None] | None = None
        self._monkey_says = ""
        self.log: list[Json] = []
        if path.exists():
            for line in path.read_text().splitlines()[-_KEPT:]:
                with contextlib.suppress(ValueError):
                    self.log.append(json.loads(line))

    async def do(
        self, action: str, targets: Sequence[str], amount: str = "", *, by: str = "user"
    ) -> Json:
        """Carry out one action; its line in the record. Raises LabkitError; it is recorded too."""
        found = ACTIONS.get(action)
        if found is None:
            raise InvalidParameter(
                f"there is no chaos action {action!r}", hint=f"one of: {', '.join(ACTIONS)}"
            )
        run, arity, needs_amount = found
        if not arity[0] <= len(targets) <= arity[1]:
            usage = "1 node" if arity == (1, 1) else f"{arity[0]} to {arity[1]} nodes"
            raise InvalidParameter(f"chaos {action} takes {usage}, not {len(targets)}")
        if needs_amount and not amount:
            raise InvalidParameter(f"chaos {action} needs an amount", hint="for example 200ms, 30%")
        entry: Json = {
            "at": time.time(),
            "action": action,
            "nodes": [self._resolved(target) for target in targets],
            "amount": amount,
            "by": by,
            "notes": [],
            "error": "",
        }
        try:
            await run(self, entry["nodes"], amount, entry["notes"])
        except LabkitError as error:
            entry["error"] = error.message
            self._remember(entry)
            raise
        self._remember(entry)
        return entry

    def _resolved(self, target: str) -> str:
        if target != "leader":
            return target
        swarm = self._fleet.swarm
        leader = swarm.leader() if swarm is not None else None
        if leader is None:
            raise Unavailable("there is no leader at the moment", hint="%lab raft")
        return leader.name

    def _remember(self, entry: Json) -> None:
        self.log.append(entry)
        del self.log[:-_KEPT]
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with contextlib.suppress(OSError), open(os.open(self._path, flags, 0o600), "a") as file:
            file.write(line)
        words = " ".join([entry["action"], *entry["nodes"], entry["amount"]]).strip()
        if self._fleet.swarm is not None:
            text = f"labkit chaos {words}" + (f": {entry['error']}" if entry["error"] else "")
            self._fleet.swarm.recorder.record("chaos", 0, {"text": text})
            self._tell_picture(entry)

    def _tell_picture(self, entry: Json) -> None:
        swarm = self._fleet.swarm
        assert swarm is not None
        if entry["action"] == "heal":
            swarm.recorder.record("heal", 0, {})
        elif entry["action"] == "partition" and not entry["error"]:
            numbers = {name: number for number, name in swarm.names.items()}
            one, other = self._sides(entry["nodes"])
            detail = {
                "from": sorted(numbers[name] for name in one if name in numbers),
                "to": sorted(numbers[name] for name in other if name in numbers),
                "both": True,
            }
            swarm.recorder.record("cut", 0, detail)

    def status(self) -> Json:
        """GET /v1/chaos: the record, what is broken now, and whether the monkey is about."""
        return {
            "log": self.log,
            "wires": self._fleet.weather.bad(),
            "monkey": self._monkey_says if self._monkey is not None else "",
        }

    async def close(self) -> None:
        """The monkey goes home."""
        task, self._monkey = self._monkey, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # -- actions -----------------------------------------------------------------------------------

    def _sides(self, nodes: Sequence[str]) -> tuple[list[str], list[str]]:
        """`A B` or `A,B C,D`; one side alone is cut off from everybody else."""
        everybody = self._fleet.names()
        sides = [[name for name in side.split(",") if name] for side in nodes]
        for side in sides:
            for place, name in enumerate(side):
                side[place] = self._resolved(name)
                if side[place] not in everybody:
                    self._fleet.nodes.get(name)  # raises NotFound with a hint
        one = sides[0]
        other = sides[1] if len(sides) > 1 else [name for name in everybody if name not in one]
        if not one or not other or set(one) & set(other):
            raise InvalidParameter(
                "a partition needs two sides without a node in common",
                hint="labkit chaos partition manager-1 manager-2,manager-3",
            )
        return one, other

    async def _partition(self, nodes: list[str], _amount: str, notes: list[str]) -> None:
        self._fleet.weather.cut(*self._sides(nodes))
        await self._fleet.apply_weather(notes)

    async def _heal(self, _nodes: list[str], _amount: str, notes: list[str]) -> None:
        self._fleet.weather.heal()
        await self._fleet.apply_weather(notes)

    async def _slow(self, nodes: list[str], amount: str, notes: list[str]) -> None:
        delay = milliseconds(amount, what="slow")
        for source, target in self._pairs(nodes):
            self._fleet.weather.wire(source, target).delay_ms = delay
        await self._fleet.apply_weather(notes)

    async def _lose(self, nodes: list[str], amount: str, notes: list[str]) -> None:
        loss = share(amount, what="lose")
        for source, target in self._pairs(nodes):
            self._fleet.weather.wire(source, target).loss = loss
        await self._fleet.apply_weather(notes)

    def _pairs(self, nodes: list[str]) -> list[tuple[str, str]]:
        one, other = self._sides(nodes)
        return [pair for a in one for b in other for pair in ((a, b), (b, a))]

    async def _kill(self, nodes: list[str], _amount: str, _notes: list[str]) -> None:
        await self._fleet.kill(nodes[0])

    async def _restart(self, nodes: list[str], _amount: str, _notes: list[str]) -> None:
        await self._fleet.restart(nodes[0])

    async def _pause(self, nodes: list[str], _amount: str, _notes: list[str]) -> None:
        await self._fleet.pause(nodes[0])

    async def _resume(self, nodes: list[str], _amount: str, _notes: list[str]) -> None:
        await self._fleet.resume(nodes[0])

    async def _skew(self, nodes: list[str], amount: str, notes: list[str]) -> None:
        by = share(amount, what="clock-skew", least=-0.9, most=_SKEW_MOST)
        if self._fleet.swarm is None:
            raise Conflict("only a manager's clock can be skewed, and no swarm is up")
        self._fleet.swarm.named(nodes[0]).speed = 1.0 + by
        notes.append(f"the clock of {nodes[0]} runs at {1 + by:g} times its speed")

    # -- the monkey --------------------------------------------------------------------------------

    async def _release_monkey(self, nodes: list[str], amount: str, notes: list[str]) -> None:
        if nodes == ["stop"]:
            if self._monkey is None:
                raise Conflict("there is no monkey to stop")
            await self.close()
            return
        if nodes:
            raise InvalidParameter(f"chaos monkey: cannot read {nodes[0]!r}", hint="monkey stop")
        every = milliseconds(amount or "5s", what="monkey", most=3_600_000)
        if every < 100:
            raise InvalidParameter("a monkey needs 100 ms between two strikes at least")
        await self.close()
        seed = random.SystemRandom().randrange(1 << 32)
        self._monkey_says = f"every {every / 1000:g} s, seed {seed}"
        notes.append(f"the monkey strikes {self._monkey_says}")
        self._monkey = asyncio.ensure_future(self._strike(every / 1000, random.Random(seed)))  # noqa: S311

    async def _strike(self, every_s: float, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(every_s)
            action, targets = self._idea(rng)
            if not action:
                continue
            try:
                await self.do(action, targets, _MONKEY_AMOUNTS.get(action, ""), by="monkey")
            except LabkitError as error:
                _LOG.info("the monkey failed at %s %s: %s", action, targets, error)

    def _idea(self, rng: random.Random) -> tuple[str, list[str]]:
        """Something to do that is possible now: what is broken is mended as often as it breaks."""
        up, down, paused = self._fleet.conditions()
        ideas: list[tuple[str, list[str]]] = []
        if up:
            ideas += [("kill", [rng.choice(up)]), ("pause", [rng.choice(up)])]
            ideas += [("partition", [rng.choice(up)])] if len(up) > 1 else []
            ideas += [("lose", rng.sample(up, 2)), ("slow", rng.sample(up, 2))] if up[1:] else []
        ideas += [("restart", [name]) for name in down]
        ideas += [("resume", [name]) for name in paused]
        if self._fleet.weather.bad():
            ideas += [("heal", [])] * 2
        return rng.choice(ideas) if ideas else ("", [])


_MONKEY_AMOUNTS = {"lose": "30%", "slow": "200ms"}
_Run = Callable[[Chaos, list[str], str, list[str]], Awaitable[None]]

ACTIONS: dict[str, tuple[_Run, tuple[int, int], bool]] = {
    "partition": (Chaos._partition, (1, 2), False),
    "heal": (Chaos._heal, (0, 0), False),
    "kill": (Chaos._kill, (1, 1), False),
    "restart": (Chaos._restart, (1, 1), False),
    "pause": (Chaos._pause, (1, 1), False),
    "resume": (Chaos._resume, (1, 1), False),
    "slow": (Chaos._slow, (1, 2), True),
    "lose": (Chaos._lose, (1, 2), True),
    "clock-skew": (Chaos._skew, (1, 1), True),
    "monkey": (Chaos._release_monkey, (0, 1), False),
}
"""Name → what it does, how many targets it takes, whether it needs an amount."""
