"""The replicated store as the swarm runs it: committed writes a second, beside PySyncObj and etcd.

In memory: three members in one process, on unix sockets, beside three PySyncObj members in one
process on loopback TCP; a hundred writes on their way, per second of processor time.

Durable: the same with journals on disk (every write is on two of them before it is answered),
beside three etcd processes on loopback through etcd's own JSON gateway, by the wall clock, with one
and with `CLIENTS` writers that each have one write on its way.

Rounds are interleaved (ours, theirs, ours, …); prints medians and spreads, asserts nothing. A peer
that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labkit.cluster.raft.node import Options
from labkit.cluster.raft.types import Config, Role
from labkit.cluster.store.commands import Put
from labkit.daemon.swarm.member import Member
from labkit.daemon.swarm.surroundings import MemberSettings, Surroundings
from labkit.daemon.swarm.weather import Weather
from labkit.world.real.places import UnixPlace
from tests.bench.bench_raft import peer_writes_a_second, store_writes_a_second

CLIENTS = 64
OUTSTANDING = 100
SECONDS = 2.0
ROUNDS = 3


async def _our_writes(folder: Path, *, durable: bool, clients: int = CLIENTS) -> float:
    executor = ThreadPoolExecutor(3)
    names = {number: f"m{number}" for number in (1, 2, 3)}
    around = Surroundings(
        "bench",
        names,
        {number: UnixPlace(folder / f"{number}.sock") for number in names},
        Weather(random.Random(1)),
        executor,
    )
    settings = MemberSettings(0.1, Options(entries_per_message_max=512))
    config = Config(frozenset(names))
    members = [
        Member(n, around, config, settings, folder=folder / f"m{n}" if durable else None)
        for n in names
    ]
    for member in members:
        await member.start()
    while not any(m.node.role is Role.LEADER for m in members):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    leader = next(m for m in members if m.node.role is Role.LEADER)
    await leader.submit(Put("warm", "up"))
    done = 0
    end = time.perf_counter() + SECONDS

    async def client(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await leader.submit(Put(f"k{number}", str(done)))
            done += 1

    clock = time.perf_counter if durable else time.process_time
    began = clock()
    await asyncio.gather(*(client(number) for number in range(clients)))
    took = clock() - began
    for member in members:
        member.crash()
    executor.shutdown()
    return done / took


def our_writes(*, durable: bool, clients: int = CLIENTS) -> float:
    """Committed writes a second through three real members."""
    folder = Path(tempfile.mkdtemp(prefix="lkb"))
    try:
        return asyncio.run(_our_writes(folder, durable=durable, clients=clients))
    finally:
        shutil.rmtree(folder)


class Etcd:
    """Three etcd processes on loopback."""

    def __init__(self, program: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lke"))
        base = 23790
        peers = ",".join(f"e{n}=http://127.0.0.1:{base + 10 + n}" for n in (1, 2, 3))
        self.urls = [f"http://127.0.0.1:{base + n}" for n in (1, 2, 3)]
        self.processes = [
            subprocess.Popen(
                [
                    program,
                    f"--name=e{n}",
                    f"--data-dir={self.folder / f'e{n}'}",
                    f"--listen-client-urls={self.urls[n - 1]}",
                    f"--advertise-client-urls={self.urls[n - 1]}",
                    f"--listen-peer-urls=http://127.0.0.1:{base + 10 + n}",
                    f"--initial-advertise-peer-urls=http://127.0.0.1:{base + 10 + n}",
                    f"--initial-cluster={peers}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )
            for n in (1, 2, 3)
        ]

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def writes(self, clients: int) -> float:
        """Writes a second through the leader, with keep-alive connections."""
        import aiohttp

        async with aiohttp.ClientSession() as session:
            url = await self._leader(session)
            done = 0
            end = time.perf_counter() + SECONDS

            async def client(number: int) -> None:
                nonlocal done
                key = base64.b64encode(f"k{number}".encode()).decode()
                while time.perf_counter() < end:
                    value = base64.b64encode(str(done).encode()).decode()
                    body = json.dumps({"key": key, "value": value})
                    async with session.post(f"{url}/v3/kv/put", data=body) as answer:
                        await answer.read()
                    done += 1

            began = time.perf_counter()
            await asyncio.gather(*(client(number) for number in range(clients)))
            return done / (time.perf_counter() - began)

    async def _leader(self, session: object) -> str:
        import aiohttp

        assert isinstance(session, aiohttp.ClientSession)
        for _ in range(200):
            for url in self.urls:
                try:
                    async with session.post(f"{url}/v3/maintenance/status", data="{}") as answer:
                        found = await answer.json(content_type=None)
                except (aiohttp.ClientError, ValueError):
                    continue
                if found.get("leader") and found["leader"] == found["header"]["member_id"]:
                    return url
            await asyncio.sleep(0.1)
        raise TimeoutError("etcd's three members did not find each other")


def row(name: str, values: list[float]) -> None:
    spread = f"{min(values):,.0f} to {max(values):,.0f}"
    print(f"{name:<58}{statistics.median(values):>12,.0f}   ({spread})")


def main() -> None:
    memory, theirs, bare = [], [], []
    has_peer = importlib.util.find_spec("pysyncobj") is not None
    for _ in range(ROUNDS):
        memory.append(our_writes(durable=False, clients=OUTSTANDING))
        bare.append(store_writes_a_second())
        if has_peer:
            found = peer_writes_a_second()
            if isinstance(found, float):
                theirs.append(found)
    row("in memory, three members on unix sockets (per CPU second)", memory)
    row("in memory, three replicas handed over (per CPU second)", bare)
    if theirs:
        row("PySyncObj, three members on loopback (per CPU second)", theirs)
        ratios = [a / b for a, b in zip(memory, theirs, strict=False)]
        print(f"ratio with sockets {statistics.median(ratios):.1f}")
        ratios = [a / b for a, b in zip(bare, theirs, strict=False)]
        print(f"ratio handed over {statistics.median(ratios):.1f}")
    else:
        print("PySyncObj is not installed (pip install pysyncobj)")
    program = shutil.which("etcd")
    peers: dict[int, list[float]] = {1: [], CLIENTS: []}
    mine: dict[int, list[float]] = {1: [], CLIENTS: []}
    etcd = Etcd(program) if program is not None else None
    try:
        for _ in range(ROUNDS):
            for clients in (1, CLIENTS):
                mine[clients].append(our_writes(durable=True, clients=clients))
                if etcd is not None:
                    peers[clients].append(asyncio.run(etcd.writes(clients)))
    finally:
        if etcd is not None:
            etcd.close()
    for clients in (1, CLIENTS):
        row(f"durable, three members, {clients} clients", mine[clients])
        if etcd is not None:
            row(f"etcd, three members, {clients} clients (JSON gateway)", peers[clients])
            pairs = zip(mine[clients], peers[clients], strict=True)
            print(f"ratio {statistics.median(a / b for a, b in pairs):.2f}")
    if etcd is None:
        print("etcd is not installed (apt install etcd-server)")


if __name__ == "__main__":
    main()
