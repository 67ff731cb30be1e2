"""A process that works an engine hard until it is killed, saying on stdout what was answered.

Run as `python engine_victim.py HOME RUN SHARED SEED`. Each line is one finished request: what an
engine has answered must be true after a kill -9, whatever instruction that hits.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from engine_lab import Lab, open_lab

from labkit.base.errors import LabkitError
from labkit.base.paths import LabPaths


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def work(lab: Lab, rng: random.Random, number: int) -> None:
    engine = lab.engine
    for round_number in range(1000):
        name = f"w{number}-{round_number}"
        code = rng.randrange(1, 100)
        host = {"AutoRemove": rng.random() < 0.2}
        script = f"echo {code}; sleep 0.0{rng.randrange(10)}; exit {code}"
        long_lived = rng.random() < 0.2
        argv = ["sleep", "1000"] if long_lived else ["sh", "-c", script]
        await engine.container_create(
            {"Image": "busybox", "Cmd": argv, "HostConfig": host}, name=name
        )
        say("created", name, str(int(host["AutoRemove"])))
        await engine.container_start(name)
        say("started", name, str(code), "long" if long_lived else "short")
        if long_lived:
            if rng.random() < 0.5:
                created = await engine.exec_create(name, {"Cmd": ["true"]})
                await engine.exec_start(created["Id"], {"Detach": True})
            continue
        if host["AutoRemove"]:
            continue
        result = await (await engine.container_wait(name))
        say("ended", name, str(result["StatusCode"]))
        if rng.random() < 0.7:
            await engine.container_remove(name, force=rng.random() < 0.5)
            say("removed", name)


async def main() -> None:
    home, run, shared, seed = sys.argv[1:]
    lab = await open_lab(LabPaths(Path(home), Path(run)), Path(shared))
    say("ready")
    rng = random.Random(int(seed))
    try:
        await asyncio.gather(*(work(lab, random.Random(rng.random()), n) for n in range(4)))
    except LabkitError as error:
        say("failed", repr(error.message))
        raise


asyncio.run(main())
