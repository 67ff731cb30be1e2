"""kill -9 of the engine at any moment: what was answered holds, nothing leaks, no code is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from engine_lab import Lab, open_lab

from labkit.base.paths import LabPaths
from labkit.host.engine.container import Container

VICTIM = Path(__file__).parent / "engine_victim.py"


@dataclass
class Said:
    """What the killed engine had answered, by container name."""

    auto_remove: dict[str, bool] = field(default_factory=dict)
    started: dict[str, tuple[int, str]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def take(self, line: str) -> None:
        match line.split():
            case ["created", name, auto]:
                self.auto_remove[name] = auto == "1"
            case ["started", name, code, kind]:
                self.started[name] = (int(code), kind)
            case ["ended", name, code]:
                self.ended[name] = int(code)
            case ["removed", name]:
                self.removed.add(name)
            case ["failed", *words]:
                raise AssertionError(f"the engine failed by itself: {' '.join(words)}")


def a_seed() -> int:
    """From LABKIT_TEST_SEED, to repeat a run, or a new one."""
    return int(os.environ.get("LABKIT_TEST_SEED") or random.SystemRandom().randrange(1 << 30))


async def kill_at_random(paths: LabPaths, shared: Path, seed: int) -> Said:
    rng = random.Random(seed)
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        str(VICTIM),
        *map(str, (paths.home, paths.run, shared, seed)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert victim.stdout is not None
    said = Said()
    assert await victim.stdout.readline() == b"ready\n"
    end = asyncio.get_running_loop().time() + rng.uniform(0.05, 1.5)
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            async with asyncio.timeout(left):
                line = await victim.stdout.readline()
        except TimeoutError:
            break
        said.take(line.decode())
    os.kill(victim.pid, signal.SIGKILL)
    while line := await victim.stdout.readline():
        # The last one may be cut in the middle, and then it was not said.
        if line.endswith(b"\n"):
            said.take(line.decode())
    await victim.wait()
    return said


def check(lab: Lab, said: Said) -> None:
    found = {container.name: container for container in lab.engine.context.containers.values()}
    for name, auto in said.auto_remove.items():
        if name in said.removed:
            assert name not in found, f"{name} was removed and is back"
            continue
        if name not in found:
            # It removes itself, or its removal was under way when the engine died.
            assert auto or name in said.ended, f"{name} is lost"
            continue
        container = found[name]
        assert container.state.status in ("created", "running", "exited"), name
        if name in said.ended:
            assert (container.state.status, container.state.exit_code) == (
                "exited",
                said.ended[name],
            )
        elif name in said.started:
            code, kind = said.started[name]
            if kind == "long":
                assert container.state.status == "running", name
            elif container.state.status == "exited":
                assert container.state.exit_code == code, name
    folders = {entry.name for entry in (lab.paths.host_data() / "containers").iterdir()}
    assert folders == set(lab.engine.context.containers)
    assert set(lab.engine.context.ports.snapshots.containers()) == folders


@pytest.mark.parametrize("attempt", range(3))
async def test_a_killed_engine_is_taken_up_where_it_was(
    lab: Lab, image_store: Path, attempt: int
) -> None:
    seed = a_seed() + attempt
    print(f"LABKIT_TEST_SEED={seed - attempt}")
    await lab.close()
    said = await kill_at_random(lab.paths, image_store, seed)
    again = await open_lab(lab.paths, image_store)
    try:
        await settle(again, said)
        check(again, said)
    finally:
        await again.close()


async def settle(lab: Lab, said: Said) -> None:
    """Short ones that were running end by themselves, and those that remove themselves go."""
    containers = lab.engine.context.containers
    async with asyncio.timeout(20):
        for name, (_, kind) in said.started.items():
            if kind == "short" and name in lab.engine.context.names:
                await (await lab.engine.container_wait(name))
        while any(leaves_by_itself(item) for item in containers.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def leaves_by_itself(container: Container) -> bool:
    """Whether it is an AutoRemove container that has run and is about to go."""
    if not container.host.auto_remove or container.definition.path == "sleep":
        return False
    return container.removing or container.state.status in ("running", "exited", "removing")
