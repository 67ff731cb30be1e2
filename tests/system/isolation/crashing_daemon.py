"""Starts containers one after another until it is killed.

Usage: crashing_daemon.py FOLDER ROOTFS INSTANCE
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from isolation_kit import Host

from labkit.host.isolation.runtime import Runtime


async def main(folder: Path, rootfs: Path, instance: str) -> None:
    host = Host(folder, rootfs, Runtime(host=None, instance=instance, probe=None))
    print("ready", flush=True)
    for number in itertools.count():
        argv = ("sleep", "60") if number % 2 else ("sh", "-c", "exit 5")
        shim = await host.start(host.spec(*argv), hold=number % 3 == 0)
        await shim.release()
        if number % 2 == 0:
            await shim.wait()
        if number % 5 == 4:
            await shim.cleanup()


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
