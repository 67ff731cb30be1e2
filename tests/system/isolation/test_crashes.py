"""kill -9 at random moments: what is found afterwards is consistent, and nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from isolation_kit import Host, process_state

from labkit.base.errors import LabkitError
from labkit.host.isolation.runtime import ExitStatus, Runtime, Shim

HERE = Path(__file__).parent


def seeded() -> random.Random:
    seed = int(os.environ.get("LABKIT_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"LABKIT_SEED={seed}")
    return random.Random(seed)


def run_until_killed(folder: Path, rootfs: Path, instance: str, delay_s: float) -> None:
    folder.mkdir()
    program = [sys.executable, HERE / "crashing_daemon.py", folder, rootfs, instance]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
    daemon = subprocess.Popen(program, stdout=subprocess.PIPE, env=environment)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == b"ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(delay_s)
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()


async def settle(found: Shim | ExitStatus) -> ExitStatus:
    """The end of a recovered process, brought about if it still runs."""
    if isinstance(found, ExitStatus):
        return found
    await found.release()
    with contextlib.suppress(ProcessLookupError):  # it may come to its end by itself meanwhile
        found.signal_now(signal.SIGKILL)
    status = await asyncio.wait_for(found.wait(), 10)
    await found.cleanup()
    return status


@pytest.mark.parametrize("rounds", [6, pytest.param(200, marks=pytest.mark.slow)])
async def test_a_daemon_killed_at_any_moment_leaves_nothing_it_cannot_find(
    host: Host, short_tmp: Path, rounds: int
) -> None:
    randomness = seeded()
    for round_number in range(rounds):
        instance = f"crash-{short_tmp.name}-{round_number}"
        folder = short_tmp / f"crash{round_number}"
        await asyncio.to_thread(
            run_until_killed, folder, host.rootfs, instance, randomness.uniform(0.01, 0.4)
        )
        runtime = Runtime(host=None, instance=instance, probe=None)
        for place in sorted(folder.iterdir()):
            async with asyncio.timeout(30):
                status = await settle(await runtime.recover(place / "state"))
            assert status.code in (5, 137)
        # A group made just before the kill has no record; the sweep at the daemon's start takes it.
        runtime.cgroups.clean()
        assert runtime.cgroups.close()
        runtime.close()


async def test_a_shim_killed_while_it_starts_leaves_nothing(host: Host) -> None:
    randomness = seeded()
    for _ in range(10):
        spec = host.spec("sleep", "60")
        start = asyncio.ensure_future(host.start(spec))
        await asyncio.sleep(randomness.uniform(0, 0.012))
        for pid in shims_of_ours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.wait([start], timeout=10)
        if start.exception() is not None:
            assert isinstance(start.exception(), LabkitError)
            continue
        shim = start.result()
        status = await asyncio.wait_for(shim.wait(), 10) if not process_state(shim.pid) else None
        assert status is None or status.code == 137
        await shim.cleanup()


def shims_of_ours() -> list[int]:
    """Our nursery and its shims, by their names."""
    me, parents = os.getpid(), {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        if name == "labkit-shim":
            parents[int(entry)] = int(rest.split()[1])
    return [pid for pid, parent in parents.items() if me in (parent, parents.get(parent))]
