"""Three managers in this process, on unix sockets and real disks, without a daemon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labkit.cluster.raft.node import Options
from labkit.cluster.raft.types import Config, Role
from labkit.daemon.swarm.member import Member
from labkit.daemon.swarm.recorder import Recorder
from labkit.daemon.swarm.surroundings import MemberSettings, Surroundings
from labkit.daemon.swarm.weather import Weather
from labkit.world.real.places import UnixPlace

__all__ = ["Group", "until"]


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds; looks again every few milliseconds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for rings no bell
            await asyncio.sleep(0.005)


class Group:
    """Members 1 … size. `folder` None: without disks."""

    def __init__(
        self, run: Path, folder: Path | None, size: int = 3, *, recorder: bool = False
    ) -> None:
        self.executor = ThreadPoolExecutor(size)
        self.around = Surroundings(
            "test",
            {number: f"manager-{number}" for number in range(1, size + 1)},
            {number: UnixPlace(run / f"{number}.sock") for number in range(1, size + 1)},
            Weather(random.Random(1)),
            self.executor,
            Recorder({}) if recorder else None,
        )
        config = Config(frozenset(self.around.names))
        settings = MemberSettings(0.05, Options(lease_ticks=0), snapshot_every=200, keep=20)
        self.members = {
            number: Member(
                number,
                self.around,
                config,
                settings,
                folder=folder / f"m{number}" if folder is not None else None,
            )
            for number in self.around.names
        }

    async def start(self) -> None:
        for member in self.members.values():
            await member.start()

    async def leader(self) -> Member:
        await until(lambda: self.leading() is not None)
        found = self.leading()
        assert found is not None
        return found

    def leading(self) -> Member | None:
        """The leader of the highest term that has committed an entry of it."""
        found = [
            m
            for m in self.members.values()
            if m.up
            and not m.paused
            and m.node.role is Role.LEADER
            and m.node.log.term_at(m.node.commit) == m.node.term
        ]
        return max(found, key=lambda m: m.node.term) if found else None

    def close(self) -> None:
        for member in self.members.values():
            member.crash()
        self.executor.shutdown()
