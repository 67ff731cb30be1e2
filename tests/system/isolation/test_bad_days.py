"""Containers that behave badly: each is contained, told apart by its status, and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from isolation_kit import Host, process_state

from labkit.host.isolation.runtime import ExitStatus
from labkit.host.isolation.spec import IoSpec, ResourceLimits


async def test_a_memory_hog_is_ended_and_the_end_says_so(host: Host) -> None:
    if "memory" not in host.runtime.cgroups.controllers:
        pytest.skip("needs the memory controller")
    limits = ResourceLimits(memory_bytes=16 << 20, memory_swap_bytes=16 << 20, pids=20)
    shim = await host.start(host.spec("tail", "/dev/zero", limits=limits))
    status = await asyncio.wait_for(shim.wait(), 60)
    assert (status.code, status.oom_killed) == (137, True)


async def test_a_flood_of_output_stays_within_its_files(host: Host) -> None:
    # Ten times what the log may keep.
    spec = host.spec("sh", "-c", "yes 0123456789abcdef | head -c 20000000")
    folder = host.place(spec)
    io = IoSpec(log_path=folder / "log.json", log_max_bytes=1 << 20, log_max_files=2)
    shim = await host.runtime.start(spec, io, folder / "state")
    host.shims.append(shim)
    assert (await asyncio.wait_for(shim.wait(), 120)).code == 0
    logs = [folder / name for name in os.listdir(folder) if name.startswith("log.json")]
    assert len(logs) == 2
    # One record may pass the bound.
    assert all(path.stat().st_size <= (1 << 20) + 65_536 for path in logs)


async def test_who_ignores_sigterm_still_dies_of_sigkill(host: Host) -> None:
    shim = await host.start(host.spec("sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
    await shim.signal(signal.SIGTERM)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shim.wait(), 0.3)
    await shim.signal(signal.SIGKILL)
    assert (await asyncio.wait_for(shim.wait(), 10)).code == 137


@pytest.mark.parametrize("init", [False, True])
async def test_a_zombie_factory_ends_with_its_container(host: Host, init: bool) -> None:
    """`sh` that became `sleep` waits for nobody; with --init somebody does."""
    script = (
        "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &) ; done; sleep 0.5; ps | grep -c '\\[sleep'"
    )
    found = await host.sh(f"({script}); exec true", init=init)
    assert found.code == 0
    assert found.shim.pids() == []


async def test_a_first_process_killed_from_outside_takes_all_the_others_along(host: Host) -> None:
    shim = await host.start(host.spec("sh", "-c", "sleep 100 & sleep 100 & wait"))
    async with asyncio.timeout(10):
        for _ in range(1000):
            if len(pids := shim.pids()) == 3:
                break
            await asyncio.sleep(0.01)
    os.kill(shim.init_pid, signal.SIGKILL)
    assert (await asyncio.wait_for(shim.wait(), 10)).code == 137
    await shim.cleanup()
    assert [pid for pid in pids if process_state(pid) not in ("", "Z")] == []


async def test_an_exit_code_outlives_everybody_who_might_have_told_it(host: Host) -> None:
    """The daemon goes before the end, the shim right after it."""
    shim = await host.start(host.spec("sh", "-c", "sleep 0.3; exit 41"))
    host.shims.remove(shim)
    handle = os.pidfd_open(shim.pid)
    shim.detach()
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, gone.set)
    await asyncio.wait_for(gone.wait(), 30)
    loop.remove_reader(handle)
    os.close(handle)
    found = await host.runtime.recover(shim.directory)
    assert isinstance(found, ExitStatus)
    assert found.code == 41


async def test_a_nursery_that_is_killed_is_replaced(host: Host, short_tmp: Path) -> None:
    first = await host.start(host.spec("sleep", "100"))
    for pid in host.runtime.helpers:
        os.kill(pid, signal.SIGKILL)
    again = await host.run("echo", "well")
    assert again.stdout == "well\n"
    assert not first.has_exited
    assert process_state(first.init_pid)


async def test_many_starts_at_once_all_get_a_shim(host: Host) -> None:
    found = await asyncio.gather(*(host.run("echo", str(number)) for number in range(20)))
    assert [each.stdout for each in found] == [f"{number}\n" for number in range(20)]
